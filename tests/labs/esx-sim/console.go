package main

// What waits at a console ticket's address: a WebSocket (RFC 6455) with an RFB 3.8 server of one small grey screen behind it.

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

const (
	binaryFrame = 0x2
	closeFrame  = 0x8
	pingFrame   = 0x9
	pongFrame   = 0xA
)

type socket struct {
	io.Writer
	in *bufio.Reader
}

func serveConsole(w http.ResponseWriter, r *http.Request) {
	if !simulator.LabTicket(strings.TrimPrefix(r.URL.Path, "/ticket/")) {
		http.Error(w, "no such ticket", http.StatusForbidden)
		return
	}
	if r.Header.Get("Sec-WebSocket-Protocol") != "binary" {
		http.Error(w, "the subprotocol must be binary", http.StatusBadRequest)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	(&socket{conn, buffered.Reader}).rfb()
}

func (s *socket) send(kind byte, data []byte) {
	head := []byte{0x80 | kind, byte(len(data))}
	if len(data) > 125 {
		head = []byte{0x80 | kind, 126, byte(len(data) >> 8), byte(len(data))}
	}
	_, _ = s.Write(append(head, data...))
}

// frame reads one frame from the client; what it sends is masked.
func (s *socket) frame() (byte, []byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.in, head); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & 0x7F)
	if size >= 126 {
		more := make([]byte, 8)
		start := 6
		if size == 127 {
			start = 0
		}
		if _, err := io.ReadFull(s.in, more[start:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(more)
	}
	if size > 1<<20 {
		return 0, nil, io.ErrShortBuffer
	}
	body := make([]byte, 4+size)
	if _, err := io.ReadFull(s.in, body); err != nil {
		return 0, nil, err
	}
	for i := range body[4:] {
		body[4+i] ^= body[i%4]
	}
	return head[0] & 0x0F, body[4:], nil
}

func (s *socket) rfb() {
	answers := [][]byte{
		{1, 1},       // one security type: none
		{0, 0, 0, 0}, // which is fine
		append([]byte{0, 8, 0, 8, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 3}, "lab"...),
	}
	s.send(binaryFrame, []byte("RFB 003.008\n"))
	for {
		kind, data, err := s.frame()
		switch {
		case err != nil:
			return
		case kind == closeFrame:
			s.send(closeFrame, data)
			return
		case kind == pingFrame:
			s.send(pongFrame, data)
		case kind == binaryFrame && len(answers) > 0:
			s.send(binaryFrame, answers[0])
			answers = answers[1:]
		case kind == binaryFrame:
			s.send(binaryFrame, data) // an echo, so that large messages can be tried in both directions
		}
	}
}

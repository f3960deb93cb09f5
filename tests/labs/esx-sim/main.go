// An ESXi host or a vCenter on loopback: govmomi's simulator, with what lab.go adds. Prints "ready HOST:PORT" when it listens.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	esx := flag.Bool("esx", false, "one ESXi host instead of a vCenter")
	listen := flag.String("listen", "127.0.0.1:0", "listen address")
	user := flag.String("username", "root", "user")
	password := flag.String("password", "secret", "password")
	guests := flag.Int("guests", 0, "virtual machines at the start, a host or resource pool")
	datacenters := flag.Int("datacenters", 1, "datacenters of a vCenter")
	pem := flag.String("pem", "", "file with the server's certificate and key; without one it has a weak one of its own")
	flag.Parse()

	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	} else {
		model.Datacenter = *datacenters
	}
	model.Machine = *guests
	model.Autostart = false
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	model.Service.TLS = new(tls.Config)
	if *pem != "" {
		pair, err := tls.LoadX509KeyPair(*pem, *pem)
		if err != nil {
			log.Fatal(err)
		}
		model.Service.TLS.Certificates = []tls.Certificate{pair}
	}
	model.Service.ServeMux = http.NewServeMux()
	model.Service.ServeMux.HandleFunc("/ticket/", serveConsole)
	model.Service.ServeMux.HandleFunc("/screen", simulator.LabScreen)
	model.Service.ServeMux.HandleFunc("/lab/expire", simulator.LabExpire)
	server := model.Service.NewServer()
	simulator.LabFinish(server.URL.Host)
	fmt.Printf("ready %s\n", server.URL.Host)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	model.Remove()
}

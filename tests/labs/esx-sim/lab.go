package simulator

// What a real ESXi has, our driver needs, and this simulator lacks. Built into its package by `go build -overlay`.

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"image"
	"image/png"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	labHost    string
	labPort    int32
	labMutex   sync.Mutex
	labTickets = map[string]bool{}
)

// LabFinish fills in what Model.Create leaves out.
func LabFinish(address string) {
	host, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	labHost, labPort = host, int32(number)
	if name := Map.OptionManager().find("VirtualCenter.InstanceName"); name != nil {
		name.Value = "vcenter.lab"
	}
	for _, e := range Map.All("DistributedVirtualPortgroup") {
		if p := e.(*DistributedVirtualPortgroup); strings.Contains(p.Name, "-DVUplinks") {
			p.Tag = append(p.Tag, types.Tag{Key: "SYSTEM/DVS.UPLINKPG"})
		}
	}
	for _, e := range Map.All("HostSystem") {
		h := e.(*HostSystem)
		nested := true
		capability := types.HostCapability{}
		if h.Capability != nil {
			capability = *h.Capability
		}
		capability.ScreenshotSupported = true
		capability.NestedHVSupported = &nested
		h.Capability = &capability
		a := &HostAutoStartManager{}
		a.Self = types.ManagedObjectReference{Type: "HostAutoStartManager", Value: "autostart-" + h.Self.Value}
		off := false
		a.Config.Defaults = &types.AutoStartDefaults{Enabled: &off, StartDelay: 120, StopDelay: 120, StopAction: "PowerOff"}
		ref := Map.Put(a).Reference()
		h.ConfigManager.AutoStartManager = &ref
	}
}

// HostAutoStartManager as on ESXi.
type HostAutoStartManager struct{ mo.HostAutoStartManager }

func (m *HostAutoStartManager) ReconfigureAutostart(ctx *Context, req *types.ReconfigureAutostart) soap.HasFault {
	if d := req.Spec.Defaults; d != nil && d.Enabled != nil {
		m.Config.Defaults.Enabled = d.Enabled
	}
	for _, n := range req.Spec.PowerInfo {
		var keep []types.AutoStartPowerInfo
		for _, o := range m.Config.PowerInfo {
			if o.Key != n.Key {
				keep = append(keep, o)
			}
		}
		if strings.EqualFold(n.StartAction, "powerOn") {
			keep = append(keep, n)
		}
		m.Config.PowerInfo = keep
	}
	return &methods.ReconfigureAutostartBody{Res: &types.ReconfigureAutostartResponse{}}
}

// -- guests --------------------------------------------------------------------------------------------------------------

// labPowered is called before a power state changes: only a power-off that the guest knew of is a clean one.
func (vm *VirtualMachine) labPowered(state types.VirtualMachinePowerState) {
	clean := false
	vm.Runtime.CleanPowerOff = nil
	if state == types.VirtualMachinePowerStatePoweredOff {
		vm.Runtime.CleanPowerOff = &clean
	}
}

// labChanged is called after each change of the configuration.
func (vm *VirtualMachine) labChanged() {
	vm.Config.ChangeVersion = time.Now().UTC().Format(time.RFC3339Nano)
	if vm.Self.Value != "" {
		Map.Update(vm, []types.PropertyChange{{Name: "config.changeVersion", Val: vm.Config.ChangeVersion}})
	}
}

// labGuest refuses what needs a running guest with VMware Tools in it.
func (vm *VirtualMachine) labGuest() *soap.Fault {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return Fault("", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: vm.Runtime.PowerState})
	}
	if vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return Fault("Cannot complete operation because VMware Tools is not running in this virtual machine.",
			new(types.ToolsUnavailable))
	}
	return nil
}

// ShutdownGuest is obeyed at once.
func (vm *VirtualMachine) ShutdownGuest(ctx *Context, req *types.ShutdownGuest) soap.HasFault {
	if fault := vm.labGuest(); fault != nil {
		return &methods.ShutdownGuestBody{Fault_: fault}
	}
	vm.PowerOffVMTask(ctx, &types.PowerOffVM_Task{This: vm.Self})
	clean := true
	vm.Runtime.CleanPowerOff = &clean
	return &methods.ShutdownGuestBody{Res: new(types.ShutdownGuestResponse)}
}

// RebootGuest leaves the power state as it is.
func (vm *VirtualMachine) RebootGuest(ctx *Context, req *types.RebootGuest) soap.HasFault {
	if fault := vm.labGuest(); fault != nil {
		return &methods.RebootGuestBody{Fault_: fault}
	}
	now := time.Now()
	Map.Update(vm, []types.PropertyChange{{Name: "runtime.bootTime", Val: now}})
	return &methods.RebootGuestBody{Res: new(types.RebootGuestResponse)}
}

// -- snapshots -----------------------------------------------------------------------------------------------------------

// labKept is the power state that a snapshot comes back with: off without memory, whatever the machine did.
func (vm *VirtualMachine) labKept(memory bool) types.VirtualMachinePowerState {
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && !memory {
		return types.VirtualMachinePowerStatePoweredOff
	}
	return vm.Runtime.PowerState
}

// labWas is the power state that a snapshot was kept with.
func (vm *VirtualMachine) labWas(ref types.ManagedObjectReference) types.VirtualMachinePowerState {
	return findSnapshotInTree(vm.Snapshot.RootSnapshotList, ref).State
}

// labCurrent mends where a machine stands after its present snapshot went with its parent: at what was above that.
func (vm *VirtualMachine) labCurrent(above *types.ManagedObjectReference) {
	if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil ||
		findSnapshotInTree(vm.Snapshot.RootSnapshotList, *vm.Snapshot.CurrentSnapshot) != nil {
		return
	}
	Map.Update(vm, []types.PropertyChange{{Name: "snapshot.currentSnapshot", Val: above}})
}

// -- disks -----------------------------------------------------------------------------------------------------------------

const labFlat = "-flat.vmdk"

// labSized gives a disk's data file its size: here it is made empty.
func labSized(f *os.File, spec types.BaseVirtualDiskSpec) {
	if s, ok := spec.(*types.FileBackedVirtualDiskSpec); ok && strings.HasSuffix(f.Name(), labFlat) {
		_ = f.Truncate(s.CapacityKb * 1024)
	}
}

// labDiskSpec is what a disk that is made with its machine is made as.
func labDiskSpec(disk *types.VirtualDisk) types.BaseVirtualDiskSpec {
	return &types.FileBackedVirtualDiskSpec{CapacityKb: disk.CapacityInKB}
}

// labCapacity is the size of a disk by its data file, in KiB.
func labCapacity(file string) int64 {
	info, err := os.Stat(strings.TrimSuffix(file, ".vmdk") + labFlat)
	if err != nil {
		return 0
	}
	return info.Size() / 1024
}

// labDisk tells a disk's size along, as ESXi's browser does.
func labDisk(dir string, info types.FileInfo) types.BaseFileInfo {
	return &types.VmDiskFileInfo{FileInfo: info, CapacityKb: labCapacity(path.Join(dir, info.Path))}
}

// labAttached reads the size of a disk that was there before: whoever attaches one need not know it.
func labAttached(disk *types.VirtualDisk, dc *types.ManagedObjectReference, name string) {
	if disk.CapacityInKB != 0 {
		return
	}
	if file, fault := Map.FileManager().resolve(dc, name); fault == nil {
		disk.CapacityInKB = labCapacity(file)
		disk.CapacityInBytes = disk.CapacityInKB * 1024
	}
}

// RefreshDatastore answers, which the one here forgets.
func (ds *Datastore) RefreshDatastore(req *types.RefreshDatastore) soap.HasFault {
	body := ds.hardRefresh(req).(*methods.RefreshDatastoreBody)
	if body.Fault_ == nil {
		body.Res = new(types.RefreshDatastoreResponse)
	}
	return body
}

// -- consoles and screens ---------------------------------------------------------------------------------------------------

// AcquireTicket hands out a ticket that is good for one WebSocket.
func (vm *VirtualMachine) AcquireTicket(ctx *Context, req *types.AcquireTicket) soap.HasFault {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return &methods.AcquireTicketBody{Fault_: Fault("", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: vm.Runtime.PowerState})}
	}
	id := strings.Replace(uuid.New().String(), "-", "", -1)[:16]
	labMutex.Lock()
	labTickets[id] = true
	labMutex.Unlock()
	der, _ := base64.StdEncoding.DecodeString(Map.SessionManager().TLSCert())
	thumbprint := strings.Replace(fmt.Sprintf("% X", sha1.Sum(der)), " ", ":", -1)
	return &methods.AcquireTicketBody{Res: &types.AcquireTicketResponse{Returnval: types.VirtualMachineTicket{
		Ticket: id, CfgFile: vm.Config.Files.VmPathName, Host: labHost, Port: labPort, SslThumbprint: thumbprint}}}
}

// LabTicket takes a ticket.
func LabTicket(id string) bool {
	labMutex.Lock()
	defer labMutex.Unlock()
	good := labTickets[id]
	delete(labTickets, id)
	return good
}

// LabScreen answers /screen?id=… as hostd does.
func LabScreen(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err == nil {
		_, found := Map.SessionManager().getSession(cookie.Value)
		if !found {
			err = http.ErrNoCookie
		}
	}
	if err != nil {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	vm, ok := Map.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: r.URL.Query().Get("id")}).(*VirtualMachine)
	if !ok || vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		http.Error(w, "no screen", http.StatusNotFound)
		return
	}
	var picture bytes.Buffer
	_ = png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8)))
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(picture.Bytes())
}

// LabExpire ends every session, as a restart of hostd does.
func LabExpire(w http.ResponseWriter, r *http.Request) {
	sessionMutex.Lock()
	defer sessionMutex.Unlock()
	Map.SessionManager().sessions = map[string]Session{}
}

// -- counters ------------------------------------------------------------------------------------------------------------------

// QueryPerf answers one sample each 20 s of the clock, newest last, for entities that run.
func (p *PerformanceManager) QueryPerf(ctx *Context, req *types.QueryPerf) soap.HasFault {
	const interval = 20
	res := new(types.QueryPerfResponse)
	newest := time.Now().Unix() / interval
	for _, spec := range req.QuerySpec {
		metric := &types.PerfEntityMetric{PerfEntityMetricBase: types.PerfEntityMetricBase{Entity: spec.Entity}}
		count := int64(spec.MaxSample)
		if count <= 0 || count > 180 {
			count = 180
		}
		vm, isVM := Map.Get(spec.Entity).(*VirtualMachine)
		if isVM && vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue // ESXi leaves out what has no samples
		}
		for tick := newest - count + 1; tick <= newest; tick++ {
			metric.SampleInfo = append(metric.SampleInfo, types.PerfSampleInfo{Timestamp: time.Unix(tick*interval, 0).UTC(), Interval: interval})
		}
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(spec.Entity.Value))
		for _, id := range spec.MetricId {
			info := p.perfCounterIndex[id.CounterId]
			series := &types.PerfMetricIntSeries{PerfMetricSeries: types.PerfMetricSeries{Id: id}}
			if id.Instance == "*" {
				series.Id.Instance = "scsi0:0"
			}
			for tick := newest - count + 1; tick <= newest; tick++ {
				wave := (tick*7 + int64(hash.Sum32()%101)) % 50
				switch info.GroupInfo.GetElementDescription().Key + "." + info.NameInfo.GetElementDescription().Key {
				case "cpu.used":
					series.Value = append(series.Value, 4000+wave*100) // ms of 20 s
				case "mem.consumed":
					series.Value = append(series.Value, 20000+wave) // KB
				default:
					series.Value = append(series.Value, 10+wave)
				}
			}
			metric.Value = append(metric.Value, series)
		}
		res.Returnval = append(res.Returnval, metric)
	}
	return &methods.QueryPerfBody{Res: res}
}

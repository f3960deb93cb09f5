"""What the host doctor recommends, kind by kind: where a certificate can be compared, what is missing, where the host's log is.

Commands are to be pasted on the host itself unless they say otherwise. Facts only; the doctor (`drivers.probe`) knows when.
"""

from __future__ import annotations

_LOCAL_MACHINE = (
    "powershell: Get-ChildItem Cert:\\LocalMachine\\My | ForEach-Object { $_.Subject; "
    "(Get-FileHash -Algorithm SHA256 -InputStream ([IO.MemoryStream]::new($_.RawData))).Hash }"
)

COMPARE: dict[str, str] = {
    "esx": "openssl x509 -noout -fingerprint -sha256 -in /etc/vmware/ssl/rui.crt",
    "vpx": (
        "/usr/lib/vmware-vmafd/bin/vecs-cli entry getcert --store MACHINE_SSL_CERT --alias __MACHINE_CERT "
        "| openssl x509 -noout -fingerprint -sha256"
    ),
    "xapi": "openssl x509 -noout -fingerprint -sha256 -in /etc/xensource/xapi-ssl.pem",
    "hyperv": _LOCAL_MACHINE,
    "docker": "openssl x509 -noout -fingerprint -sha256 -in /etc/docker/server-cert.pem",
    "podman": "openssl x509 -noout -fingerprint -sha256 -in THE-CERTIFICATE-OF-ITS-TLS-PROXY.pem",
}
"""The host's own word for the SHA-256 of its certificate."""

SSH_COMPARE = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"

PACKAGES: dict[str, str] = {
    "qemu": "libvirt-daemon-driver-qemu qemu-system-x86",
    "lxc": "libvirt-daemon-driver-lxc",
    "xen": "libvirt-daemon-driver-xen xen-system-amd64",
    "vbox": "libvirt-daemon-driver-vbox",
    "docker": "docker.io",
    "podman": "podman",
}
"""Debian's packages with the hypervisor and what libvirt needs for it."""

MISSING: dict[str, str] = {
    "xen": "Then restart the machine: Xen itself is started before Linux.",
    "openvz": "OpenVZ is a kernel of its own: see whether the node has booted it with: ls /proc/vz",
    "vz": "Add the Virtuozzo node itself, over SSH: its libvirt has the driver. See there: virsh -c vz:///system version",
    "vmware": (
        "VMware Workstation or Player is no Debian package: install VMware's own bundle on the machine where vmmanager runs, "
        "and see whether its account finds it with: command -v vmrun"
    ),
    "vbox": "VirtualBox itself is no Debian package: install it from Oracle, then: VBoxManage --version",
    "bhyve": "bhyve is FreeBSD's; on that host: pkg install libvirt && kldload vmm && service libvirtd onestart",
    "ch": "Debian's libvirt is built without it. It needs a libvirt with -Ddriver_ch=enabled, and: cloud-hypervisor --version",
    "esx": "Choose the kind that answers there: VMware ESXi for one host, VMware vCenter for the manager of several.",
    "vpx": "Choose the kind that answers there, and name the datacenter as the vSphere client shows it.",
    "hyperv": (
        "Hyper-V is a role of Windows; on the host: powershell: Install-WindowsFeature Hyper-V -IncludeManagementTools -Restart"
    ),
    "xapi": "XenServer's and XCP-ng's toolstack answers this; a bare Xen with libvirt is the kind Xen. On the host: xe host-list",
    "docker": "Something answers there that is no Docker. For Podman choose the kind Podman; else see: docker version",
    "podman": "Something answers there that is no Podman. For Docker choose the kind Docker; else see: podman version",
}
"""What to do where the hypervisor is not there, or another product is; after the packages, where there are any."""

LOGS: dict[str, str] = {
    "esx": "tail -n 50 /var/log/hostd.log",
    "vpx": "tail -n 50 /var/log/vmware/vpxd/vpxd.log",
    "xapi": "tail -n 50 /var/log/xensource.log",
    "hyperv": "powershell: Get-WinEvent -LogName Microsoft-Windows-WinRM/Operational -MaxEvents 20",
    "docker": "sudo journalctl -u docker -n 50",
    "podman": "sudo journalctl -u podman -n 50",
}

SERVICES: dict[str, str] = {
    "esx": "/etc/init.d/hostd restart",
    "vpx": "service-control --start vsphere-ui vpxd",
    "xapi": "xe-toolstack-restart",
    "hyperv": "powershell: winrm quickconfig -transport:https",
    "docker": "sudo systemctl enable --now docker.socket",
    "podman": "sudo systemctl enable --now podman.socket",
}
"""What starts the service that should listen."""

ACCOUNTS: dict[str, str] = {
    "esx": "Check user name and password: an account of the host itself, root unless others were made there.",
    "vpx": "Check user name and password: with its domain, such as administrator@vsphere.local.",
    "xapi": "Check user name and password: root of the pool's master, or an account with a role (xe role-list).",
    "hyperv": (
        "Check user name (HOST\\name or DOMAIN\\name) and password, and on the host whether it is in the group: "
        "powershell: Get-LocalGroupMember 'Hyper-V Administrators'"
    ),
}

PLAIN: dict[str, str] = {
    "hyperv": (
        "WinRM listens without TLS on port 5985; the HTTPS listener, usually on 5986, is made on the host by: "
        "powershell: winrm quickconfig -transport:https"
    ),
    "docker": (
        "Docker listens without TLS there, and whoever reaches that port owns the host. Use SSH, or give it certificates: "
        "dockerd --tlsverify --tlscacert=ca.pem --tlscert=server-cert.pem --tlskey=server-key.pem -H tcp://0.0.0.0:2376"
    ),
    "podman": "Podman's service has no TLS of its own, and whoever reaches that port owns the host. Use SSH.",
}
"""What to say where something answers without TLS."""

GROUPS: dict[str, str] = {"docker": "docker"}
"""Who may use the local socket, where that is not libvirt's group."""

ROOTLESS = (
    "Podman's system socket is root's alone. Use this account's own: systemctl --user enable --now podman.socket, then the socket "
    "/run/user/UID/podman/podman.sock"
)

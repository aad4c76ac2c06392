# MikroTik RouterOS: run in a terminal. It names one file for all machines, and TFTP gives each the loader that fits: for a
# BIOS, or for 64-bit UEFI on a PC. Other firmware gets its own only where netbootd sees its DHCP requests
# (dhcp.enabled = true).
/ip dhcp-server network set [find] next-server={{ address }} boot-file-name={{ universal }}

# MikroTik RouterOS: run in a terminal. It names one file for all machines, and TFTP gives each the loader that fits: for a
# BIOS, or for UEFI x86_64. Other firmware (arm64, 32-bit UEFI) gets its own only where netbootd sees its DHCP requests
# (dhcp.enabled = true).
/ip dhcp-server network set [find] next-server={{ address }} boot-file-name={{ universal }}

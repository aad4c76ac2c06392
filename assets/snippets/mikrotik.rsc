# MikroTik RouterOS: run in a terminal. It names one file for all machines, and TFTP gives each the loader that fits.
/ip dhcp-server network set [find] next-server={{ address }} boot-file-name={{ universal }}

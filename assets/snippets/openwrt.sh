# OpenWrt: run on the router. Its dnsmasq reads /etc/dnsmasq.conf beside the settings of LuCI.
cat >> /etc/dnsmasq.conf <<'END'
{% include "dnsmasq.conf" %}
END
/etc/init.d/dnsmasq restart

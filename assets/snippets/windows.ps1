# Windows Server: run in PowerShell on the DHCP server, as an administrator. The policies apply to every scope.
# iPXE sends the user class "iPXE"; it gets its script, which ends the loop of loading iPXE again.
Add-DhcpServerv4Class -Name "netbootd iPXE" -Type User -Data "iPXE"
Add-DhcpServerv4Policy -Name "netbootd iPXE" -Condition OR -UserClass EQ,"netbootd iPXE" -ProcessingOrder 1
Set-DhcpServerv4OptionValue -PolicyName "netbootd iPXE" -OptionId 66 -Value "{{ address }}"
Set-DhcpServerv4OptionValue -PolicyName "netbootd iPXE" -OptionId 67 -Value "{{ base }}/boot.ipxe"
{%- for loader in loaders %}
{%- for code in loader.tftp %}
# {{ loader.title }} (architecture {{ code.number }})
Add-DhcpServerv4Class -Name "netbootd {{ loader.tag }} {{ code.number }}" -Type Vendor -Data "PXEClient:Arch:{{ code.five }}"
Add-DhcpServerv4Policy -Name "netbootd {{ loader.tag }} {{ code.number }}" -Condition AND -VendorClass EQ,"netbootd {{ loader.tag }} {{ code.number }}*" -UserClass NE,"netbootd iPXE"
Set-DhcpServerv4OptionValue -PolicyName "netbootd {{ loader.tag }} {{ code.number }}" -OptionId 66 -Value "{{ address }}"
Set-DhcpServerv4OptionValue -PolicyName "netbootd {{ loader.tag }} {{ code.number }}" -OptionId 67 -Value "{{ loader.name }}"
{%- endfor %}
{%- for code in loader.http %}
# {{ loader.title }} by HTTP (architecture {{ code.number }})
{%- if loop.first %}
Add-DhcpServerv4OptionDefinition -OptionId 60 -Name "Vendor class" -Type String -ErrorAction SilentlyContinue
{%- endif %}
Add-DhcpServerv4Class -Name "netbootd {{ loader.tag }} {{ code.number }}" -Type Vendor -Data "HTTPClient:Arch:{{ code.five }}"
Add-DhcpServerv4Policy -Name "netbootd {{ loader.tag }} {{ code.number }}" -Condition AND -VendorClass EQ,"netbootd {{ loader.tag }} {{ code.number }}*" -UserClass NE,"netbootd iPXE"
Set-DhcpServerv4OptionValue -PolicyName "netbootd {{ loader.tag }} {{ code.number }}" -OptionId 60 -Value "HTTPClient"
Set-DhcpServerv4OptionValue -PolicyName "netbootd {{ loader.tag }} {{ code.number }}" -OptionId 67 -Value "{{ loader.url }}"
{%- endfor %}
{%- endfor %}

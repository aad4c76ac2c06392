//! The `boot.cfg` of ESXi, changed so that its loader fetches everything by HTTP ("Installing ESXi using PXE", VMware;
//! github.com/vmware/esx-boot, mboot/config.c).

/// The file with `prefix` set to a URL that ends with a slash, and with names that do not start with a slash: only those
/// are below the prefix. The case of names does not change, because it matters with Secure Boot.
///
/// Arguments of a profile are not in it: the loader adds what follows its own options to the kernel's.
#[must_use]
pub fn boot_cfg(text: &str, prefix: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut at = None;
    for line in text.lines() {
        let line = line.trim_end();
        let Some((key, value)) = line.split_once('=') else {
            lines.push(line.to_owned());
            continue;
        };
        match key.trim() {
            "prefix" => {}
            key @ ("kernel" | "crypto") => {
                at = at.or(Some(lines.len()).filter(|_| key == "kernel"));
                lines.push(format!("{key}={}", value.trim().trim_start_matches('/')));
            }
            key @ ("modules" | "acpitables") => {
                let names = value.split("---").map(|name| name.trim().trim_start_matches('/'));
                lines.push(format!("{key}={}", names.collect::<Vec<_>>().join(" --- ")));
            }
            // The image's own argument looks for a CD.
            "kernelopt" => {
                let words: Vec<&str> = value.split_whitespace().filter(|word| *word != "cdromBoot").collect();
                lines.push(format!("kernelopt={}", words.join(" ")));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.insert(at.unwrap_or(lines.len()), format!("prefix={prefix}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_below_the_prefix() {
        let text = "bootstate=0\r\ntitle=Loading ESXi installer\r\ntimeout=5\r\nprefix=\r\nkernel=/b.b00\r\nkernelopt=runweasel cdromBoot\r\nmodules=/jumpstrt.gz --- /useropts.gz a=b---/k.b00\r\ncrypto=/crypto64.efi\r\nbuild=8.0.2\r\n";
        let expected = "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=http://192.0.2.10:8080/assets/esxi.iso/\nkernel=b.b00\nkernelopt=runweasel\nmodules=jumpstrt.gz --- useropts.gz a=b --- k.b00\ncrypto=crypto64.efi\nbuild=8.0.2\n";
        assert_eq!(boot_cfg(text, "http://192.0.2.10:8080/assets/esxi.iso/"), expected);
        assert_eq!(boot_cfg("", "http://a/"), "prefix=http://a/\n");
    }
}

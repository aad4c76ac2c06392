//! The `boot.cfg` of ESXi, changed so that its loader fetches everything by HTTP ("Installing ESXi using PXE", VMware).

/// The file with `prefix` set to a URL that ends with a slash, with names that do not start with a slash, and with the
/// profile's arguments after those of the image. The case of names does not change, because it matters with Secure
/// Boot.
#[must_use]
pub fn boot_cfg(text: &str, prefix: &str, more: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        let Some((key, value)) = line.split_once('=') else {
            lines.push(line.to_owned());
            continue;
        };
        match key.trim() {
            "prefix" => {}
            "kernel" => lines.push(format!("kernel={}", value.trim().trim_start_matches('/'))),
            "modules" => {
                let names = value.split(" --- ").map(|name| name.trim().trim_start_matches('/'));
                lines.push(format!("modules={}", names.collect::<Vec<_>>().join(" --- ")));
            }
            // The image's own argument looks for a CD.
            "kernelopt" => {
                let words = value.split_whitespace().filter(|word| *word != "cdromBoot");
                let all: Vec<&str> = words.chain(more.split_whitespace()).collect();
                lines.push(format!("kernelopt={}", all.join(" ")));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let at = lines.iter().position(|line| line.starts_with("kernel=")).unwrap_or(lines.len());
    lines.insert(at, format!("prefix={prefix}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_below_the_prefix() {
        let text = "bootstate=0\r\ntitle=Loading ESXi installer\r\ntimeout=5\r\nprefix=\r\nkernel=/b.b00\r\nkernelopt=runweasel cdromBoot\r\nmodules=/jumpstrt.gz --- /useropts.gz --- /k.b00\r\nbuild=8.0.2\r\n";
        let expected = "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=http://192.0.2.10:8080/assets/esxi.iso/\nkernel=b.b00\nkernelopt=runweasel ks=http://192.0.2.10/ks.cfg\nmodules=jumpstrt.gz --- useropts.gz --- k.b00\nbuild=8.0.2\n";
        let ours = boot_cfg(text, "http://192.0.2.10:8080/assets/esxi.iso/", "ks=http://192.0.2.10/ks.cfg");
        assert_eq!(ours, expected);
        assert_eq!(boot_cfg("", "http://a/", ""), "prefix=http://a/\n");
    }
}

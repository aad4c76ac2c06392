//! Filters of templates that write a MAC address as others do.

use minijinja::{Environment, Error, ErrorKind};

/// `hyphens`: 52-54-00-12-34-56, `dots`: 5254.0012.3456, `bare`: 525400123456. Upper case is the engine's own `upper`.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("hyphens", |mac: String| Ok::<_, Error>(groups(&mac, 2)?.join("-")));
    environment.add_filter("dots", |mac: String| Ok::<_, Error>(groups(&mac, 4)?.join(".")));
    environment.add_filter("bare", |mac: String| Ok::<_, Error>(groups(&mac, 12)?.concat()));
}

/// The digits of an address in any notation, by so many.
fn groups(mac: &str, size: usize) -> Result<Vec<String>, Error> {
    let digits: Vec<char> = mac.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    if digits.len() != 12 || !digits.iter().all(char::is_ascii_hexdigit) {
        // Without the value, which may be a secret.
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is not a MAC address like machine.mac"));
    }
    Ok(digits.chunks(size).map(|group| group.iter().collect()).collect())
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[test]
    fn an_address_is_written_as_others_do() {
        let mut environment = Environment::new();
        add(&mut environment);
        let put = |filters: &str, mac: &str| {
            environment.render_str(&format!("{{{{ mac | {filters} }}}}"), context! { mac }).map_err(|e| e.to_string())
        };
        let mac = "52:54:00:ab:cd:ef";
        assert_eq!(put("hyphens", mac).as_deref(), Ok("52-54-00-ab-cd-ef"));
        assert_eq!(put("dots", mac).as_deref(), Ok("5254.00ab.cdef"));
        assert_eq!(put("bare | upper", mac).as_deref(), Ok("525400ABCDEF"));
        assert_eq!(put("upper | hyphens", mac).as_deref(), Ok("52-54-00-AB-CD-EF"));
        assert_eq!(put("hyphens | dots", mac).as_deref(), Ok("5254.00ab.cdef"));
        let fault = put("dots", "k8s08").expect_err("none");
        assert!(fault.contains("the value is not a MAC address") && !fault.contains("k8s08"), "{fault}");
    }
}

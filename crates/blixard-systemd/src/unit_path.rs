//! The D-Bus object path of a unit and the unit's name in it.
//!
//! Owns: the escaping of `sd_bus_path_encode(3)`: every byte but `A-Z a-z 0-9` (and a digit that
//! comes first) becomes `_` and two hex digits. Refuses to know: what a unit is for.

/// Where systemd has its units on the bus.
pub(crate) const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// The name of the unit at this object path; `None` if it is no unit's path.
pub(crate) fn unit_at(path: &str) -> Option<String> {
    let label = path.strip_prefix(UNITS)?.strip_prefix('/')?;
    let mut name = Vec::with_capacity(label.len());
    let mut rest = label.bytes();
    while let Some(byte) = rest.next() {
        name.push(match byte {
            b'_' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => byte,
            _ => return None,
        });
    }
    String::from_utf8(name).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_path_leads_back_to_the_units_name() {
        for (label, name) in [
            ("dbus_2eservice", "dbus.service"),
            ("_31a_5f", "1a_"),
            (r"blixard_2dvm_2da_2db_5cx2dc_2drun_2eservice", r"blixard-vm-a-b\x2dc-run.service"),
        ] {
            assert_eq!(unit_at(&format!("{UNITS}/{label}")).as_deref(), Some(name));
        }
    }

    #[test]
    fn other_paths_name_no_unit() {
        for path in [
            "/org/freedesktop/systemd1",
            "/org/freedesktop/systemd1/unit",
            "/org/freedesktop/systemd1/units/a",
            "/org/freedesktop/systemd1/unit/a/b",
            "/org/freedesktop/systemd1/unit/a_2",
            "/org/freedesktop/systemd1/unit/a_zz",
            "/org/freedesktop/systemd1/unit/_ff",
        ] {
            assert_eq!(unit_at(path), None, "{path}");
        }
    }
}

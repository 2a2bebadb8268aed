//! `xebec --version`: text that engines parse, line by line.

use xebec::Result;
use xebec::config::OCI_VERSION;

/// The release script names the commit; a build without it is of an unknown one.
const COMMIT: &str = match option_env!("XEBEC_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

pub fn run() -> Result<u8> {
    super::print(&text())
}

fn text() -> String {
    format!("xebec version {}\ncommit: {COMMIT}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_line_names_the_version_and_the_others_are_key_and_value() {
        let text = super::text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(concat!("xebec version ", env!("CARGO_PKG_VERSION"))));
        let keys: Vec<&str> = lines.filter_map(|line| line.split_once(": ")).map(|(key, _)| key).collect();
        assert_eq!(keys, ["commit", "spec"]);
    }
}

use super::parse;

/// Printed by Nix 2.26.3 for a runner with one dependency; the same in 2.34.8.
const RECORDED: &str = "\
/nix/store/s50cxk2llpib3wlxn8i5c7y85k9zbr4x-dep
7bdbc9e6407d9d3ed40adc64d746be6366b5f58ee668c6b02866008bbef57202
120
/nix/store/2skhci81w2a013izx0dib0854rysvyjs-dep.drv
0
/nix/store/m3k2prd15qqhazcwmjg9gwk0cq3lyj42-web
71f7baf0964ca9bbadcf2c248de198b9156cb76aa2d363948feb42b2b71654c0
504
/nix/store/6fvigk1lfrkq0yn3v9063brlvscc31k6-web.drv
1
/nix/store/s50cxk2llpib3wlxn8i5c7y85k9zbr4x-dep
";

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn records_are_read_as_nix_prints_them() {
    let records = parse(RECORDED).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].path.basename(), "s50cxk2llpib3wlxn8i5c7y85k9zbr4x-dep");
    assert!(records[0].references.is_empty());
    assert_eq!(records[1].nar_size, 504);
    assert_eq!(records[1].nar_hash.to_string(), "sha256-cfe68JZMqbutzywkjeGYuRVst2qi02OUj+tCsrcWVMA=");
    assert_eq!(records[1].references.first(), Some(&records[0].path));
}

#[test]
fn a_source_has_no_deriver() {
    let text = "\
/nix/store/i1fpjhpl9ahxlxzrzb1g6b9bmqgdxr8p-source
25c5729647e37d3de138515c1c4576ec6a4361edf2a9a1f9ec2c57843c3d157a
1760

0
";
    assert_eq!(parse(text).unwrap().len(), 1);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn a_record_that_ends_early_is_refused_wherever_it_ends() {
    let lines: Vec<&str> = RECORDED.lines().collect();
    let whole = [0, 5, 11];
    for count in 0..=lines.len() {
        let start = lines[..count].join("\n");
        assert_eq!(parse(&start).is_ok(), whole.contains(&count), "{count} lines");
    }
}

#[test]
fn what_is_not_in_the_format_is_refused_with_its_record() {
    insta::assert_snapshot!(refused(&RECORDED.replace("\n504\n", "\n+504\n")), @r#"record 2: "+504" is not a number"#);
    insta::assert_snapshot!(refused(&RECORDED.replace("\n120\n", "\n\n")), @r#"record 1: "" is not a number"#);
    insta::assert_snapshot!(refused(&RECORDED.replace("\n1\n", "\n2\n")), @"record 2: it ends before the references");
    insta::assert_snapshot!(refused(&RECORDED.replace("\n0\n", "\n18446744073709551615\n")), @r#"record 1: "71f7baf0964ca9bbadcf2c248de198b9156cb76aa2d363948feb42b2b71654c0" is not a store path"#);
    insta::assert_snapshot!(refused(&RECORDED.replace("7bdbc9", "zbdbc9")), @r#"record 1: "zbdbc9e6407d9d3ed40adc64d746be6366b5f58ee668c6b02866008bbef57202" is not a SHA-256 in base 16"#);
    insta::assert_snapshot!(refused(&format!("{RECORDED}\n")), @r#"record 3: "" is not a store path"#);
    let twice = RECORDED.replace("\n1\n", "\n2\n/nix/store/s50cxk2llpib3wlxn8i5c7y85k9zbr4x-dep\n");
    insta::assert_snapshot!(refused(&twice), @"record 2: /nix/store/s50cxk2llpib3wlxn8i5c7y85k9zbr4x-dep is listed twice among the references");
}

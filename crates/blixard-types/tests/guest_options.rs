//! The options of `modules/guest` against the JSON schema of the Rust types, both ways, and the specs that the
//! module makes against the parser. The snapshots are the module's own words; `cargo xtask nix` says whether they
//! still are.

#[cfg(test)]
mod guest_options {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use blixard_types::Spec;
    use serde_json::{Map, Value, json};

    /// What is known only when the runner is, and so is no option.
    const DERIVED: [&str; 4] = ["schema", "notify", "canShutdown", "interfaces[].multiQueue"];

    /// Options that say no more than others, or more than a spec.
    const OF_THE_MODULE: [&str; 7] =
        ["memory", "vcpus", "task", "spec", "runner", "volumes[].mountPoint", "shares[].mountPoint"];

    fn snapshots() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../checks/offline/snapshots")
    }

    fn read(name: &str) -> Value {
        let file = snapshots().join(name);
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Each key of a spec with its type, limits, words and default.
    type Shapes = BTreeMap<String, Value>;

    fn joined(path: &str, name: &str) -> String {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    }

    /// What a schema refers to, with what is said beside it.
    fn resolve(root: &Value, schema: &Value) -> Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema.clone() };
        let name = reference.trim_start_matches("#/$defs/");
        let mut resolved = root["$defs"][name].as_object().unwrap().clone();
        resolved.extend(schema.as_object().unwrap().clone());
        resolved.remove("$ref");
        Value::Object(resolved)
    }

    /// The choice that is not null.
    fn non_null(schema: &Value) -> Option<&Value> {
        schema.get("anyOf")?.as_array()?.iter().find(|choice| choice["type"] != "null")
    }

    fn of_schema(root: &Value, path: &str, schema: &Value, shapes: &mut Shapes) {
        let schema = resolve(root, schema);
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = joined(path, name);
            let property = resolve(root, property);
            if property.get("properties").is_some() {
                of_schema(root, &path, &property, shapes);
                continue;
            }
            let default = property.get("default").filter(|_| !required(name)).cloned();
            let inner = non_null(&property).map(|some| resolve(root, some));
            let real = inner.as_ref().unwrap_or(&property);
            shapes.insert(path.clone(), shape(real, default));
            if let Some(items) = real.get("items") {
                of_schema(root, &format!("{path}[]"), items, shapes);
            }
            if inner.is_some() {
                of_schema(root, &path, real, shapes);
            }
        }
    }

    /// What a schema says of a value.
    fn shape(schema: &Value, default: Option<Value>) -> Value {
        let mut shape = Map::new();
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| **kind != "null").unwrap(),
            kind => kind,
        };
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        let words: Vec<&Value> = choices.filter_map(|one| one.get("const")).collect();
        let words = if words.is_empty() { schema.get("enum").cloned() } else { Some(json!(words)) };
        let kind = if words.is_some() { json!("string") } else { kind.clone() };
        shape.insert("type".to_owned(), kind);
        if schema.get("maximum").is_some() {
            shape.insert("minimum".to_owned(), schema["minimum"].clone());
            shape.insert("maximum".to_owned(), schema["maximum"].clone());
        }
        let more = [("enum", words), ("default", default)];
        shape.extend(more.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(shape)
    }

    fn of_options(path: &str, section: &Value, shapes: &mut Shapes) {
        for (name, option) in section["properties"].as_object().into_iter().flatten() {
            let path = joined(path, name);
            let nullable = option.get("nullable").is_some();
            if option.get("properties").is_some() && !nullable {
                of_options(&path, option, shapes);
                continue;
            }
            let mut told = option.as_object().unwrap().clone();
            told.retain(|key, _| ["type", "minimum", "maximum", "enum", "default"].contains(&key.as_str()));
            shapes.insert(path.clone(), Value::Object(told));
            of_options(&format!("{path}[]"), &option["items"], shapes);
            of_options(&path, option, shapes);
        }
    }

    #[test]
    fn the_options_of_a_guest_are_the_keys_of_a_spec() {
        let (mut schema, mut options) = (Shapes::new(), Shapes::new());
        let root = blixard_types::spec::json_schema();
        of_schema(&root, "", &root, &mut schema);
        of_options("", &read("guest-options.json"), &mut options);
        assert!(schema.len() > 30, "{schema:#?}");
        let mut wrong = Vec::new();
        for (path, shape) in &schema {
            match options.get(path) {
                None if DERIVED.contains(&path.as_str()) => {}
                None => wrong.push(format!("{path} is no option")),
                Some(option) if option != shape => {
                    wrong.push(format!("{path} is {option} as an option and {shape} in a spec"));
                }
                Some(_) => {}
            }
        }
        for path in options.keys().filter(|path| !schema.contains_key(*path)) {
            if !OF_THE_MODULE.contains(&path.as_str()) {
                wrong.push(format!("{path} is an option and nothing in a spec"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_spec_that_the_module_makes_is_read() {
        let mut specs = 0;
        for entry in std::fs::read_dir(snapshots()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".spec.json") {
                Spec::from_json(&read(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
                specs += 1;
            }
        }
        assert!(specs >= 6, "there are only {specs} specs in {}", snapshots().display());
    }

    #[test]
    fn what_a_guest_says_is_what_its_spec_says() {
        let spec = Spec::from_json(&read("whole.spec.json")).unwrap();
        assert_eq!(
            (spec.tenant.as_str(), spec.resources.vcpus, spec.resources.memory_mib),
            ("shop", 2, 1024)
        );
        assert_eq!(spec.volumes[0].image, "data.img");
        assert!(spec.interfaces[0].multi_queue, "several processors, several queues");
        assert_eq!(spec.account.unwrap().user, "microvm");
        let worker = Spec::from_json(&read("worker.spec.json")).unwrap();
        assert_eq!(worker.kind, blixard_types::spec::VmKind::Task);
    }
}

//! `cache`, `cache_ttl`, `checkpoint` and `secrets`.

use std::time::Duration;

use kiln_core::CacheRules;

use super::{Fixture, plan};

const HOURS: u64 = 3600;

fn template(source: &str, step: &str) -> Fixture {
    Fixture::file(&format!(
        "variable \"token\" {{\n  default   = \"s3cret-token\"\n  sensitive = true\n}}\n\
         source \"docker\" \"x\" {{\n  image = \"a\"\n{source}\n}}\n\
         build {{\n  source \"docker.x\" {{\n    name = \"y\"\n  }}\n\
         provisioner \"shell\" {{\n    inline = [\"true\"]\n{step}\n  }}\n}}\n"
    ))
}

#[test]
fn a_step_says_how_it_is_cached() {
    let loaded = template(
        "",
        "    cache      = false\n    cache_ttl  = \"24h\"\n    checkpoint = true\n    secrets    = { token = var.token, \"a.b\" = 12345 }",
    )
    .load();
    let step = &plan(&loaded).builds[0].steps[0];
    assert_eq!(step.cache, CacheRules { is_off: true, ttl: Some(Duration::from_secs(24 * HOURS)) });
    assert!(step.is_checkpoint);
    let secrets: Vec<(&str, &str)> =
        step.secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect();
    assert_eq!(secrets, [("a.b", "12345"), ("token", "s3cret-token")]);
    for secret in ["12345", "s3cret-token"] {
        assert!(plan(&loaded).secrets.iter().any(|known| known == secret), "{secret} is hidden");
    }
}

#[test]
fn nothing_said_means_cached_for_ever() {
    let loaded = template("", "").load();
    let build = &plan(&loaded).builds[0];
    assert_eq!((build.cache, build.steps[0].cache), (CacheRules::default(), CacheRules::default()));
    assert!(!build.steps[0].is_checkpoint && build.steps[0].secrets.is_empty());
}

#[test]
fn a_source_speaks_for_all_its_steps() {
    let loaded = template("  cache = false\n  cache_ttl = \"1h\"", "").load();
    let rules = CacheRules { is_off: true, ttl: Some(Duration::from_secs(HOURS)) };
    assert_eq!(plan(&loaded).builds[0].cache, rules);
}

#[test]
fn arguments_of_the_template_are_no_arguments_of_the_kind() {
    let loaded = template("  cache = true", "    checkpoint = true\n    secrets = { a = \"bcd\" }").load();
    let build = &plan(&loaded).builds[0];
    let names = |spec: &kiln_core::ComponentSpec| -> Vec<String> {
        let facts = kiln_core::Facts::default();
        let body = spec.config.evaluate(&kiln_core::Schema::UNTYPED, &facts, &mut kiln_core::Diagnostics::new());
        body.attributes.keys().cloned().collect()
    };
    assert_eq!(names(&build.source), ["image"]);
    assert_eq!(names(&build.steps[0].component), ["inline"]);
}

#[test]
fn mistakes_are_told_at_their_place() {
    let fixture = template(
        "  cache_ttl = \"one day\"",
        "    cache = \"perhaps\"\n    secrets = { \"../x\" = \"a\", \"\" = \"b\", \".c\" = \"d\" }",
    );
    insta::assert_snapshot!(fixture.report());
}

#[test]
fn they_are_listed_as_beyond_packer() {
    let loaded = template("  cache = true", "    checkpoint = true\n    secrets = { a = \"bcd\" }").load();
    let found: Vec<&str> = plan(&loaded).extensions.iter().map(|extension| extension.what.as_str()).collect();
    assert_eq!(found, ["`cache` of a `source`", "`checkpoint` of a `provisioner`", "`secrets` of a `provisioner`"]);
}

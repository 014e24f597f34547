//! The login of a source: `login`, `login_server`, `login_username`, `login_password`.

use kiln_core::{Decoded, Diagnostic, PrepareContext};

/// What is wrong with it: half a login, or one that is not switched on. `code` names the source's mistakes; `login` is the
/// argument's value.
pub fn login_mistakes(
    arguments: &Decoded,
    login: bool,
    code: &'static str,
    context: &PrepareContext,
) -> Vec<Diagnostic> {
    let names = ["login_server", "login_username", "login_password"];
    if !login {
        let set = names.into_iter().find(|name| arguments.is_set(name));
        let warning = |name: &str| {
            let title = format!("`{name}` has no effect without `login = true`");
            Diagnostic::warning("without-effect", arguments.span(name), title)
        };
        return set.map(warning).into_iter().collect();
    }
    let is_empty = |name: &str| arguments.values().get(name).is_none_or(|value| value.as_str() == Some(""));
    let missing = names[1..].iter().filter(|name| is_empty(name) && !arguments.is_unknown(name));
    missing
        .map(|name| {
            let is_set = arguments.is_set(name);
            let place = arguments.span(if is_set { name } else { "login" });
            let error = context.unless_checked(Diagnostic::error(code, place, format!("`login` needs `{name}`")));
            match is_set {
                true => error.help("a variable of the environment that is not set is the usual reason"),
                false => error,
            }
        })
        .collect()
}

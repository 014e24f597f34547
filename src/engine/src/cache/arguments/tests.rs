use super::*;

#[test]
fn the_words_of_actions_are_functions_and_keywords() {
    for (text, expected) in [
        ("chmod +x {{.Path}}; {{.Vars}} {{ .Path }}", vec![]),
        ("{{if .Vars}}{{.Vars}}{{end}}", vec!["if", "end"]),
        ("{{ build `ID` }} {{user \"name of build\"}}", vec!["build", "user"]),
        ("{{ $x.y.z | lower }}{{- timestamp -}}", vec!["lower", "timestamp"]),
        ("{{ isotime \"2006", vec!["isotime"]),
        ("{{ .Vars }} {{", vec![]),
        ("{{ 'ä' }}{{.}}{{$}}", vec![]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}

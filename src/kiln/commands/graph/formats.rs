//! The graph as a tree of lines, and in the languages of Graphviz and Mermaid.

use super::Graph;

/// A tree from parents to children. What hangs on several parents stands below each, with all below it only the first time.
pub(super) fn text(graph: &Graph) -> String {
    let mut lines = Vec::new();
    let mut is_shown = vec![false; graph.names.len()];
    for root in (0..graph.names.len()).filter(|build| graph.parents[*build].is_empty()) {
        branch(graph, root, "", "", &mut is_shown, &mut lines);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn branch(graph: &Graph, build: usize, twig: &str, below: &str, is_shown: &mut [bool], lines: &mut Vec<String>) {
    let children = graph.children(build);
    let is_repeated = std::mem::replace(&mut is_shown[build], true) && !children.is_empty();
    let above = if is_repeated { " (see above)" } else { "" };
    lines.push(format!("{twig}{}{above}", graph.shown(build)));
    if is_repeated {
        return;
    }
    for (index, child) in children.iter().enumerate() {
        let (twig, further) =
            if index + 1 == children.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
        branch(graph, *child, &format!("{below}{twig}"), &format!("{below}{further}"), is_shown, lines);
    }
}

/// For Graphviz.
pub(super) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph kiln {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
    for build in 0..graph.names.len() {
        let style = if graph.taken[build] { " [style = dashed]" } else { "" };
        text.push_str(&format!("  {}{style};\n", quoted(&graph.names[build])));
    }
    for (build, parents) in graph.parents.iter().enumerate() {
        for parent in parents {
            text.push_str(&format!("  {} -> {};\n", quoted(&graph.names[*parent]), quoted(&graph.names[build])));
        }
    }
    text + "}\n"
}

/// For Mermaid, which GitLab and GitHub show in Markdown.
pub(super) fn mermaid(graph: &Graph) -> String {
    // Its quotes know no escapes but those of HTML.
    let quoted = |text: &str| text.replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;");
    let mut text = "flowchart LR\n".to_owned();
    for build in 0..graph.names.len() {
        text.push_str(&format!("  b{build}[\"{}\"]\n", quoted(&graph.shown(build))));
    }
    for (build, parents) in graph.parents.iter().enumerate() {
        for parent in parents {
            text.push_str(&format!("  b{parent} --> b{build}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::diamond;

    #[test]
    fn a_diamond_in_every_language() {
        let graph = diamond();
        insta::assert_snapshot!(super::text(&graph), @r#"
        oci.base (taken as it is)
        ├── oci.dev
        │   └── docker.prod
        └── docker.prod
        docker."odd" <name>
        "#);
        insta::assert_snapshot!(super::dot(&graph), @r#"
        digraph kiln {
          rankdir = LR;
          node [shape = box];
          "oci.base" [style = dashed];
          "oci.dev";
          "docker.prod";
          "docker.\"odd\" <name>";
          "oci.base" -> "oci.dev";
          "oci.base" -> "docker.prod";
          "oci.dev" -> "docker.prod";
        }
        "#);
        insta::assert_snapshot!(super::mermaid(&graph), @r#"
        flowchart LR
          b0["oci.base (taken as it is)"]
          b1["oci.dev"]
          b2["docker.prod"]
          b3["docker.#quot;odd#quot; #lt;name#gt;"]
          b0 --> b1
          b0 --> b2
          b1 --> b2
        "#);
    }
}

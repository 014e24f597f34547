//! The graph as a picture of its own: a column for each rank, parents to the left of their children.

use super::Graph;

/// Sizes in pixels. A letter of the font is 0.6 as wide as it is high.
const FONT: usize = 13;
const LETTER: usize = 8;
const BOX_HEIGHT: usize = 30;
const ROW: usize = 46;
/// The row of an arrow that passes a column.
const LANE: usize = 18;
const GAP: usize = 70;
const MARGIN: usize = 16;

/// Longer names are cut in their middle, as both ends tell them apart.
const LONGEST: usize = 48;

/// Where a build's box stands.
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

pub(super) fn picture(graph: &Graph) -> String {
    let Layout { places, edges, width, height } = layout(graph);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"{FONT}\">\n  <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n  <defs>\
         <marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#555\"/></marker></defs>\n"
    );
    for edge in &edges {
        let (from, to) = (&places[edge.parent], &places[edge.child]);
        let (mut x, mut y) = (from.x + from.width, from.y + BOX_HEIGHT / 2);
        let mut path = format!("M{x} {y}");
        for (start, end, level) in edge.way.iter().copied().chain([(to.x, to.x, to.y + BOX_HEIGHT / 2)]) {
            let bend = start.saturating_sub(x) / 2;
            path.push_str(&format!(" C{} {y} {} {level} {start} {level}", x + bend, start - bend));
            if end > start {
                path.push_str(&format!(" H{end}"));
            }
            (x, y) = (end, level);
        }
        text.push_str(&format!("  <path d=\"{path}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#arrow)\"/>\n"));
    }
    for (build, place) in places.iter().enumerate() {
        let dashes = if graph.taken[build] { " stroke-dasharray=\"4 3\"" } else { "" };
        let (whole, shown) = (&graph.names[build], shown(&graph.names[build]));
        let title = if shown == **whole { String::new() } else { format!("<title>{}</title>", escaped(whole)) };
        text.push_str(&format!(
            "  <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"#f4f1ea\" stroke=\"#333\"{dashes}/>\n  \
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{title}{}</text>\n",
            place.x,
            place.y,
            place.width,
            place.x + place.width / 2,
            place.y + BOX_HEIGHT / 2 + FONT / 3,
            escaped(&shown)
        ));
    }
    text + "</svg>\n"
}

/// Where all stands, and the size of the picture.
struct Layout {
    places: Vec<Place>,
    edges: Vec<Edge>,
    width: usize,
    height: usize,
}

/// The arrow from a build to one that is built upon it.
struct Edge {
    parent: usize,
    child: usize,
    /// How it passes the columns between the two: from where to where, and at which height.
    way: Vec<(usize, usize, usize)>,
    /// At which height it came last.
    last: usize,
}

/// What stands in one row of a column.
enum Item {
    Build(usize),
    /// An arrow on its way to a later column.
    Edge(usize),
}

impl Item {
    fn height(&self) -> usize {
        if matches!(self, Item::Build(_)) { ROW } else { LANE }
    }
}

/// What stands in each column.
fn columns(ranks: &[usize], edges: &[Edge]) -> Vec<Vec<Item>> {
    let column = |column: usize| {
        let builds = (0..ranks.len()).filter(|build| ranks[*build] == column).map(Item::Build);
        let passes = |edge: &usize| ranks[edges[*edge].parent] < column && column < ranks[edges[*edge].child];
        builds.chain((0..edges.len()).filter(passes).map(Item::Edge)).collect()
    };
    (0..ranks.iter().max().map_or(0, |last| last + 1)).map(column).collect()
}

fn layout(graph: &Graph) -> Layout {
    let width_of = |build: usize| letters(&shown(&graph.names[build])) * LETTER + 2 * MARGIN;
    let mut places: Vec<Place> =
        (0..graph.names.len()).map(|build| Place { x: 0, y: 0, width: width_of(build) }).collect();
    let parents = graph.parents.iter().enumerate();
    let pairs = parents.flat_map(|(child, parents)| parents.iter().map(move |parent| (*parent, child)));
    let mut edges: Vec<Edge> = pairs.map(|(parent, child)| Edge { parent, child, way: Vec::new(), last: 0 }).collect();
    let columns = columns(&graph.ranks(), &edges);
    let height_of = |items: &[Item]| items.iter().map(Item::height).sum::<usize>();
    let height = columns.iter().map(|items| height_of(items)).max().unwrap_or(0);
    let mut x = MARGIN;
    for mut items in columns {
        // Children stand beside their parents, as far as that goes; an arrow that goes on has a row of its own.
        items.sort_by_key(|item| match item {
            Item::Build(build) => {
                let heights: Vec<usize> =
                    edges.iter().filter(|edge| edge.child == *build).map(|edge| edge.last).collect();
                heights.iter().sum::<usize>() / heights.len().max(1)
            }
            Item::Edge(edge) => edges[*edge].last,
        });
        let widths = items.iter().map(|item| if let Item::Build(build) = item { places[*build].width } else { 0 });
        let widest = widths.max().unwrap_or(0);
        // Every column takes the whole height, so that few parents stand amid their many children.
        let (spare, count) = (height - height_of(&items), items.len());
        let mut above = MARGIN;
        for (row, item) in items.into_iter().enumerate() {
            let middle = above + spare * (2 * row + 1) / (2 * count) + item.height() / 2;
            above += item.height();
            match item {
                Item::Build(build) => {
                    (places[build].x, places[build].y) = (x, middle - BOX_HEIGHT / 2);
                    edges.iter_mut().filter(|edge| edge.parent == build).for_each(|edge| edge.last = middle);
                }
                Item::Edge(edge) => {
                    edges[edge].way.push((x, x + widest, middle));
                    edges[edge].last = middle;
                }
            }
        }
        x += widest + GAP;
    }
    Layout { places, edges, width: (x + MARGIN).saturating_sub(GAP).max(2 * MARGIN), height: height + 2 * MARGIN }
}

/// The name as it stands in its box.
fn shown(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST {
        return name.to_owned();
    }
    let half = LONGEST / 2;
    let ends = [&letters[..half - 1], &['\u{2026}'], &letters[letters.len() - half..]];
    ends.concat().into_iter().collect()
}

/// How many letters of the font a text is wide; those of East Asia are two.
fn letters(text: &str) -> usize {
    text.chars().map(|letter| if letter >= '\u{1100}' && letter != '\u{2026}' { 2 } else { 1 }).sum()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::{Graph, diamond};

    #[test]
    fn boxes_stand_in_columns_and_nothing_overlaps() {
        let graph = diamond();
        let super::Layout { places, width, height, .. } = super::layout(&graph);
        assert!(places[0].x < places[1].x && places[1].x < places[2].x);
        assert_eq!((places[0].x, places[0].y == places[3].y), (places[3].x, false));
        assert!(places.iter().all(|place| place.x + place.width < width && place.y + super::BOX_HEIGHT < height));
        let picture = super::picture(&graph);
        assert!(picture.contains("docker.\"odd\" &lt;name&gt;</text>"), "{picture}");
        assert_eq!(picture.matches("marker-end").count(), 3);
        assert!(super::picture(&Graph::default()).ends_with("</svg>\n"));
    }

    #[test]
    fn few_parents_stand_amid_their_children_and_long_names_are_cut() {
        let long = format!("oci.{}.end", "x".repeat(200));
        let names = ["base", &long, "b", "c"].map(std::sync::Arc::from).to_vec();
        let graph = Graph { names, parents: vec![vec![], vec![0], vec![0], vec![0]], taken: vec![false; 4] };
        let super::Layout { places, .. } = super::layout(&graph);
        assert_eq!(places[0].y, places[2].y, "the middle one of three");
        assert!(places[1].width < 60 * super::LETTER);
        let picture = super::picture(&graph);
        assert!(picture.contains(&format!("<title>{long}</title>oci.xxx")) && picture.contains("xxx.end</text>"));
    }

    #[test]
    fn an_arrow_past_a_column_has_a_row_of_its_own_there() {
        let names = ["base", "dev", "prod"].map(std::sync::Arc::from).to_vec();
        let graph = Graph { names, parents: vec![vec![], vec![0], vec![0, 1]], taken: vec![false; 3] };
        let super::Layout { places, edges, .. } = super::layout(&graph);
        let long = edges.iter().find(|edge| (edge.parent, edge.child) == (0, 2)).unwrap();
        let [(start, end, level)] = long.way[..] else { panic!("{:?}", long.way) };
        assert_eq!((start, end), (places[1].x, places[1].x + places[1].width));
        assert!(level > places[1].y + super::BOX_HEIGHT || level < places[1].y, "not through the box");
        assert!(super::picture(&graph).contains(&format!(" H{end} C")));
    }
}

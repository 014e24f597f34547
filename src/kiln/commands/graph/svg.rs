//! The graph as a picture of its own: a column for each rank, parents to the left of their children.

use super::Graph;

/// Sizes in pixels. A letter of the font is 0.6 as wide as it is high.
const FONT: usize = 13;
const LETTER: usize = 8;
const BOX_HEIGHT: usize = 30;
const ROW: usize = 46;
const GAP: usize = 70;
const MARGIN: usize = 16;

/// Where a build's box stands.
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

pub(super) fn picture(graph: &Graph) -> String {
    let (places, width, height) = layout(graph);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"{FONT}\">\n  <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n  <defs>\
         <marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#555\"/></marker></defs>\n"
    );
    for (build, parents) in graph.parents.iter().enumerate() {
        for parent in parents {
            let (from, to) = (&places[*parent], &places[build]);
            let (start, end) = (from.x + from.width, to.x);
            let (above, below) = (from.y + BOX_HEIGHT / 2, to.y + BOX_HEIGHT / 2);
            let bend = (end - start) / 2;
            text.push_str(&format!(
                "  <path d=\"M{start} {above} C{} {above} {} {below} {end} {below}\" fill=\"none\" stroke=\"#555\" \
                 marker-end=\"url(#arrow)\"/>\n",
                start + bend,
                end - bend
            ));
        }
    }
    for (build, place) in places.iter().enumerate() {
        let dashes = if graph.taken[build] { " stroke-dasharray=\"4 3\"" } else { "" };
        text.push_str(&format!(
            "  <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"#f4f1ea\" stroke=\"#333\"{dashes}/>\n  \
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            place.x,
            place.y,
            place.width,
            place.x + place.width / 2,
            place.y + BOX_HEIGHT / 2 + FONT / 3,
            escaped(&graph.names[build])
        ));
    }
    text + "</svg>\n"
}

/// The places of all builds, and the size of the picture.
fn layout(graph: &Graph) -> (Vec<Place>, usize, usize) {
    let ranks = graph.ranks();
    let width_of = |build: usize| graph.names[build].chars().count() * LETTER + 2 * MARGIN;
    let columns = ranks.iter().max().map_or(0, |last| last + 1);
    let mut places: Vec<Place> = (0..ranks.len()).map(|build| Place { x: 0, y: 0, width: width_of(build) }).collect();
    let (mut x, mut height) = (MARGIN, 2 * MARGIN);
    for column in 0..columns {
        let mut builds: Vec<usize> = (0..ranks.len()).filter(|build| ranks[*build] == column).collect();
        // Children stand beside their parents, as far as that goes.
        builds.sort_by_key(|build| {
            let parents = &graph.parents[*build];
            parents.iter().map(|parent| places[*parent].y).sum::<usize>() / parents.len().max(1)
        });
        let widest = builds.iter().map(|build| places[*build].width).max().unwrap_or(0);
        for (row, build) in builds.into_iter().enumerate() {
            (places[build].x, places[build].y) = (x, MARGIN + row * ROW);
            height = height.max(MARGIN + row * ROW + BOX_HEIGHT + MARGIN);
        }
        x += widest + GAP;
    }
    (places, (x + MARGIN).saturating_sub(GAP).max(2 * MARGIN), height)
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
        let (places, width, height) = super::layout(&graph);
        assert!(places[0].x < places[1].x && places[1].x < places[2].x);
        assert_eq!((places[0].x, places[0].y == places[3].y), (places[3].x, false));
        assert!(places.iter().all(|place| place.x + place.width < width && place.y + super::BOX_HEIGHT < height));
        let picture = super::picture(&graph);
        assert!(picture.contains("docker.\"odd\" &lt;name&gt;</text>"), "{picture}");
        assert_eq!(picture.matches("marker-end").count(), 3);
        assert!(super::picture(&Graph::default()).ends_with("</svg>\n"));
    }
}

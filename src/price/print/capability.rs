//! What a model can be asked for, as its row says it.

use super::flow::{Flow, list, size, text};
use crate::image::Capability;
use crate::image::capability::{FreeSizes, Sizes};

pub(super) fn capability(can: &Capability) -> String {
    let mut flow = Flow::default();
    // Must stand, even where no request can ask for what is sold.
    let operations = can.operations.iter().map(|word| word.as_str().to_owned());
    flow.add("operations", list(operations));
    let mut add = |key: &str, items: Vec<&str>| {
        if !items.is_empty() {
            flow.add(key, list(items.into_iter().map(text)));
        }
    };
    add(
        "qualities",
        can.qualities.iter().map(|word| word.as_str()).collect(),
    );
    add(
        "formats",
        can.formats.iter().map(|word| word.as_str()).collect(),
    );
    add("styles", can.styles.iter().map(String::as_str).collect());
    add(
        "backgrounds",
        can.backgrounds.iter().map(String::as_str).collect(),
    );
    add(
        "safety",
        can.safety.iter().map(|word| word.as_str()).collect(),
    );
    add(
        "tiers",
        can.tiers.iter().map(|word| word.as_str()).collect(),
    );
    add(
        "deliveries",
        can.deliveries.iter().map(|word| word.as_str()).collect(),
    );
    flow.add("sizes", sizes(&can.sizes));
    flow.add("usual", size(can.usual));
    for (key, count, unsaid) in [("max_n", can.max_n, 1), ("max_inputs", can.max_inputs, 0)] {
        if count != unsaid {
            flow.add(key, count.to_string());
        }
    }
    if let Some((least, most)) = can.steps {
        flow.add("steps", format!("[{least}, {most}]"));
    }
    let flags = [
        ("seed", can.seed),
        ("negative_prompt", can.negative_prompt),
        ("guidance", can.guidance),
        ("strength", can.strength),
        ("compression", can.compression),
        ("mask", can.mask),
        ("stream", can.stream),
    ];
    for (key, _) in flags.into_iter().filter(|(_, able)| *able) {
        flow.add(key, "true".to_owned());
    }
    flow.to_string()
}

fn sizes(sizes: &Sizes) -> String {
    let mut flow = Flow::default();
    match sizes {
        Sizes::Pixels(listed) => return list(listed.iter().map(|&one| size(one))),
        Sizes::Aspects(shapes) => {
            let mut aspects = Flow::default();
            for (aspect, pixels) in shapes {
                aspects.add(&aspect.to_string(), size(*pixels));
            }
            flow.add("aspects", aspects.to_string());
        }
        Sizes::Free(free) => flow.add("free", bounds(free)),
    }
    flow.to_string()
}

fn bounds(free: &FreeSizes) -> String {
    let mut flow = Flow::default();
    flow.add("multiple", free.multiple.to_string());
    flow.add("min_pixels", free.min_pixels.to_string());
    flow.add("max_pixels", free.max_pixels.to_string());
    flow.add("max_side", free.max_side.to_string());
    if free.max_ratio != u32::MAX {
        flow.add("max_ratio", free.max_ratio.to_string());
    }
    flow.to_string()
}

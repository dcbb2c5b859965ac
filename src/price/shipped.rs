//! The price files that come with the program.

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        /// Name and text of each, in order.
        pub(super) const FILES: &[(&str, &str)] = &[
            $((
                concat!("prices/", $name, ".yaml"),
                include_str!(concat!("../../prices/", $name, ".yaml")),
            ),)+
        ];
    };
}

files![
    "openai",
    "azure",
    "google",
    "stability",
    "midjourney",
    "bfl",
    "fal",
    "replicate",
    "bedrock",
    "ideogram",
    "luma",
    "runway",
    "recraft",
    "xai",
    "together",
    "fireworks",
    "deepinfra",
    "openrouter",
    "resellers",
    "gateways",
    "stores",
];

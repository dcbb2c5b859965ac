//! The providers this release knows before anything is configured.
//!
//! Hosts are named one by one, regions too: a name that covers a cloud's whole domain would make
//! us a witness to traffic that has nothing to do with pictures. A provider without a dialect
//! passes through, and nothing can be routed to it.

/// A provider as it is known from the start.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// Empty while this release cannot read or write its messages.
    pub(super) dialects: &'static [&'static str],
    pub(super) hosts: &'static [&'static str],
    /// Where a call goes that a rule sends here; `None` for servers of the user's own.
    pub(super) upstream: Option<&'static str>,
    /// Environment variables that its own tools read the key from, the first one first.
    pub(super) key_from: &'static [&'static str],
    /// Environment variables that its own tools read the address from, where every customer has
    /// one of their own.
    pub(super) address_from: &'static [&'static str],
    /// Prefix and suffix around a region's name, for providers with a host a region.
    regions: Option<(&'static str, &'static [&'static str], &'static str)>,
}

/// The dialects that this release speaks.
pub(super) fn dialects() -> impl Iterator<Item = &'static str> {
    crate::dialect::ALL.iter().map(|dialect| dialect.name())
}

/// Models of Vertex AI are served from these regions (cloud.google.com, Vertex AI locations).
const VERTEX: &[&str] = &[
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-southwest1",
    "europe-west1",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
];

/// Regions with a `bedrock-runtime` endpoint (docs.aws.amazon.com, Bedrock endpoints).
const BEDROCK: &[&str] = &[
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "openai",
        dialects: &["openai", "responses"],
        hosts: &["api.openai.com", "us.api.openai.com", "eu.api.openai.com"],
        upstream: Some("api.openai.com"),
        key_from: &["OPENAI_API_KEY"],
        ..Known::NOTHING
    },
    // A host for every customer's resource: told by the environment or the configuration.
    Known {
        name: "azure",
        dialects: &["azure"],
        key_from: &["AZURE_OPENAI_API_KEY"],
        address_from: &["AZURE_OPENAI_ENDPOINT"],
        ..Known::NOTHING
    },
    Known {
        name: "google",
        dialects: &["imagen", "gemini"],
        hosts: &[
            "generativelanguage.googleapis.com",
            "aiplatform.googleapis.com",
        ],
        upstream: Some("generativelanguage.googleapis.com"),
        // In the order in which Google's own libraries look.
        key_from: &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        regions: Some(("", VERTEX, "-aiplatform.googleapis.com")),
        ..Known::NOTHING
    },
    Known {
        name: "stability",
        dialects: &["stability_v1", "stability"],
        hosts: &["api.stability.ai"],
        upstream: Some("api.stability.ai"),
        key_from: &["STABILITY_API_KEY", "STABILITY_KEY"],
        ..Known::NOTHING
    },
    // Self-hosted proxies: hosts are named in the configuration.
    Known {
        name: "midjourney",
        ..Known::NOTHING
    },
    Known {
        name: "bfl",
        dialects: &["bfl"],
        hosts: &[
            "api.bfl.ai",
            "api.eu.bfl.ai",
            "api.us.bfl.ai",
            "api.us1.bfl.ai",
        ],
        upstream: Some("api.bfl.ai"),
        key_from: &["BFL_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "fal",
        dialects: &["fal"],
        // The second two are where its own clients turn when the first are not to be reached.
        hosts: &["fal.run", "queue.fal.run", "falrun.com", "queue.falrun.com"],
        upstream: Some("queue.fal.run"),
        key_from: &["FAL_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "replicate",
        dialects: &["replicate"],
        hosts: &["api.replicate.com"],
        upstream: Some("api.replicate.com"),
        key_from: &["REPLICATE_API_TOKEN"],
        ..Known::NOTHING
    },
    Known {
        name: "bedrock",
        upstream: Some("bedrock-runtime.us-west-2.amazonaws.com"),
        key_from: &["AWS_BEARER_TOKEN_BEDROCK"],
        regions: Some(("bedrock-runtime.", BEDROCK, ".amazonaws.com")),
        ..Known::NOTHING
    },
    Known {
        name: "ideogram",
        dialects: &["ideogram"],
        hosts: &["api.ideogram.ai"],
        upstream: Some("api.ideogram.ai"),
        key_from: &["IDEOGRAM_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "leonardo",
        hosts: &["cloud.leonardo.ai"],
        upstream: Some("cloud.leonardo.ai"),
        key_from: &["LEONARDO_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "luma",
        hosts: &["api.lumalabs.ai"],
        upstream: Some("api.lumalabs.ai"),
        key_from: &["LUMAAI_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "runway",
        hosts: &["api.dev.runwayml.com"],
        upstream: Some("api.dev.runwayml.com"),
        key_from: &["RUNWAYML_API_SECRET"],
        ..Known::NOTHING
    },
    Known {
        name: "recraft",
        hosts: &["external.api.recraft.ai"],
        upstream: Some("external.api.recraft.ai"),
        key_from: &["RECRAFT_API_TOKEN", "RECRAFT_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "xai",
        hosts: &["api.x.ai"],
        upstream: Some("api.x.ai"),
        key_from: &["XAI_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "together",
        hosts: &["api.together.ai", "api.together.xyz"],
        upstream: Some("api.together.ai"),
        key_from: &["TOGETHER_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "fireworks",
        hosts: &["api.fireworks.ai"],
        upstream: Some("api.fireworks.ai"),
        key_from: &["FIREWORKS_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "deepinfra",
        hosts: &["api.deepinfra.com"],
        upstream: Some("api.deepinfra.com"),
        key_from: &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"],
        ..Known::NOTHING
    },
    Known {
        name: "openrouter",
        hosts: &["openrouter.ai"],
        upstream: Some("openrouter.ai"),
        key_from: &["OPENROUTER_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "tokenmix",
        hosts: &["api.tokenmix.ai"],
        upstream: Some("api.tokenmix.ai"),
        key_from: &["TOKENMIX_API_KEY"],
        ..Known::NOTHING
    },
    // Runs where its operator likes.
    Known {
        name: "litellm",
        key_from: &["LITELLM_PROXY_API_KEY", "LITELLM_API_KEY"],
        ..Known::NOTHING
    },
    Known {
        name: "portkey",
        hosts: &["api.portkey.ai"],
        upstream: Some("api.portkey.ai"),
        key_from: &["PORTKEY_API_KEY"],
        ..Known::NOTHING
    },
];

impl Known {
    /// What is known of a provider that is not known.
    pub(super) const NOTHING: Known = Known {
        name: "",
        dialects: &[],
        hosts: &[],
        upstream: None,
        key_from: &[],
        address_from: &[],
        regions: None,
    };

    /// Every host, regions written out.
    pub(super) fn all_hosts(&self) -> impl Iterator<Item = String> {
        let (before, regions, after) = self.regions.unwrap_or(("", &[], ""));
        let fixed = self.hosts.iter().map(|host| (*host).to_owned());
        fixed.chain(
            regions
                .iter()
                .map(move |region| format!("{before}{region}{after}")),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::address::host_name;

    #[test]
    fn no_name_host_or_variable_belongs_to_two() {
        let mut seen = HashSet::new();
        for known in KNOWN {
            assert!(seen.insert(known.name.to_owned()), "{}", known.name);
            for host in known.all_hosts() {
                assert_eq!(host_name(&host), Ok(host.clone()));
                assert!(seen.insert(host.clone()), "{host}");
            }
            for variable in known.key_from {
                assert!(seen.insert((*variable).to_owned()), "{variable}");
            }
        }
    }

    #[test]
    fn a_call_that_is_routed_goes_to_a_host_of_that_provider() {
        for known in KNOWN {
            if let Some(upstream) = known.upstream {
                assert!(known.all_hosts().any(|host| host == upstream), "{upstream}");
            }
            let spoken = |name: &&str| dialects().any(|spoken| spoken == *name);
            assert!(known.dialects.iter().all(spoken));
        }
    }

    #[test]
    fn regions_are_written_out() {
        let google = KNOWN.iter().find(|known| known.name == "google");
        let hosts: Vec<String> = google.into_iter().flat_map(Known::all_hosts).collect();
        assert!(hosts.contains(&"europe-west4-aiplatform.googleapis.com".to_owned()));
        assert!(hosts.contains(&"generativelanguage.googleapis.com".to_owned()));
        assert!(!hosts.contains(&"googleapis.com".to_owned()));
    }
}

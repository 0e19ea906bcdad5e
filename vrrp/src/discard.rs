//! Why an advertisement is not accepted (RFC 9568 section 7.1, RFC 3768 section 7.1, RFC 2338 section 5.3.6).
//!
//! None of these touches a timer: a router that can't be understood must not keep a backup from taking over.

macro_rules! discards {
    ($($variant:ident $label:literal $help:literal,)*) => {
        /// See the module.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Discard {
            $(#[doc = $help] $variant,)*
        }

        impl Discard {
            /// Every one, in the order of the counters.
            pub const ALL: &'static [Discard] = &[$(Discard::$variant,)*];

            /// The label in metrics. Never renamed.
            pub fn label(self) -> &'static str {
                match self { $(Discard::$variant => $label,)* }
            }

            /// One sentence for the log and the documentation.
            pub fn help(self) -> &'static str {
                match self { $(Discard::$variant => $help,)* }
            }
        }
    };
}

discards! {
    Malformed "malformed" "the IP or authentication header is cut short or contradicts itself",
    UnknownRouter "unknown_router" "no instance of this virtual router id and family on the port",
    OwnAddress "own_address" "it comes from our own address: a loop, or another host with our address",
    AuthenticationType "authentication_type" "it is authenticated in another way than ours",
    Version "version" "it is of another version than ours",
    Length "length" "it is shorter or longer than the addresses it lists need",
    Ttl "ttl" "its TTL or hop limit is not 255, or not one that `ttl_min` and `ttl_max` allow: it was forwarded",
    AuthenticationData "authentication_data" "the password, or the value made with it, is not ours",
    Replay "replay" "its sequence number was seen already, or its SPI is not its sender's address",
    Interval "interval" "its advertisement interval is not ours, which version 2 demands",
    Type "type" "it is of an unknown type",
    Checksum "checksum" "its checksum is wrong",
    Destination "destination" "it is sent to one router and ours uses the group, or the other way round",
    Peer "peer" "its sender is not one of `unicast_peers`",
    TrailerMissing "trailer_missing" "it has no trailer of `auth_hmac`, which `mode = \"enforce\"` demands",
    TrailerMalformed "trailer_malformed" "its trailer is of an unknown type or has bytes that are to be 0",
    TrailerKey "trailer_key" "its trailer is made with a key that is not ours: `auth_hmac` has none of this id",
    TrailerValue "trailer_value" "its trailer does not belong to it, or is made with another secret of this id",
    TrailerStale "trailer_stale" "its trailer is of a time that `time_window` excludes: a recording, or a clock that is wrong",
    TrailerReplay "trailer_replay" "its trailer's number, or a later one of its sender, was seen already",
    Owner "owner" "we own the addresses (priority 255), so nobody else may be master: two owners, or a forgery",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_words() {
        let labels: std::collections::HashSet<_> = Discard::ALL.iter().map(|d| d.label()).collect();
        assert_eq!(labels.len(), Discard::ALL.len());
        assert!(labels.iter().all(|label| label.chars().all(|c| matches!(c, 'a'..='z' | '_'))));
    }
}

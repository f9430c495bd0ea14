//! Lines as servers of all kept versions write them, and lines that nobody should write.

use super::*;
use proptest::prelude::*;

const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
const PEER: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";

fn line(rest: &str) -> NodeLine {
    format!("{ID} {rest}").parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn addresses_of_all_versions_are_read() {
    let v4 = Some("127.0.0.1".parse().unwrap());
    let name = || Some(String::from("redis-3"));
    for (endpoint, expected) in [
        ("127.0.0.1:30004", (v4, 30004, 40004, None)),
        ("127.0.0.1:30004@31004", (v4, 30004, 31004, None)),
        ("127.0.0.1:30004@31004,redis-3", (v4, 30004, 31004, name())),
        (
            "127.0.0.1:30004@31004,,tls-port=0,shard-id=69bc080733d1355567173199cff4a6a039a2f024",
            (v4, 30004, 31004, None),
        ),
        ("127.0.0.1:30004@31004,redis-3,shard-id=69bc", (v4, 30004, 31004, name())),
        ("127.0.0.1:30004@31004,shard-id=69bc", (v4, 30004, 31004, None)),
        ("::1:30004@31004", (Some("::1".parse().unwrap()), 30004, 31004, None)),
        ("fe80::a:1:7000@17000", (Some("fe80::a:1".parse().unwrap()), 7000, 17000, None)),
        (":30004@31004", (None, 30004, 31004, None)),
        (":0@0", (None, 0, 0, None)),
    ] {
        let line = line(&format!("{endpoint} master - 0 0 1 connected"));
        assert_eq!((line.ip, line.port, line.bus_port, line.hostname), expected, "{endpoint}");
    }
}

#[test]
fn flags_are_words_not_parts_of_words() {
    let flags = |words: &str| line(&format!("h:0@0 {words} - 0 0 0 connected").replace("h:", ":")).flags;
    assert!(
        flags("myself,master,nofailover").has(Flags::MYSELF.with(Flags::PRIMARY).with(Flags::NO_FAILOVER))
    );
    assert!(!flags("master,nofailover").has(Flags::FAILED));
    assert!(!flags("slave,fail?").has(Flags::FAILED));
    assert!(flags("slave,fail?").has(Flags::SUSPECT));
    assert!(flags("slave,fail").has(Flags::FAILED));
    assert_eq!(flags("noflags"), Flags::default());
    assert_eq!(flags("master,some-later-flag"), Flags::PRIMARY);
}

#[test]
fn roles_epochs_links_and_slots_are_read() {
    let primary = line(&format!(
        "127.0.0.1:1@2 myself,master - 0 1426238316232 12 connected 0-5460 5462 [93->-{PEER}] [77-<-{PEER}]"
    ));
    let peer = PEER.parse().unwrap();
    assert_eq!(primary.slots, [SlotRange::new(0, 5460).unwrap(), SlotRange::new(5462, 5462).unwrap()]);
    let open = |slot, direction| OpenSlot { slot: Slot::new(slot).unwrap(), direction, peer };
    assert_eq!(primary.open_slots, [open(93, Direction::Migrating), open(77, Direction::Importing)]);
    assert_eq!((primary.primary, primary.epoch, primary.is_linked), (None, 12, true));
    let replica = line(&format!("127.0.0.1:1@2 slave {PEER} 0 0 3 disconnected"));
    assert_eq!((replica.primary, replica.epoch, replica.is_linked), (Some(peer), 3, false));
}

#[test]
fn a_node_that_does_not_know_its_address_is_where_it_was_asked() {
    let asked: SocketAddr = "10.0.0.7:7000".parse().unwrap();
    assert_eq!(line(":6379@16379 myself,master - 0 0 0 connected").addr(asked), "10.0.0.7:6379".parse().ok());
    assert_eq!(line(":6379@16379 master - 0 0 0 connected").addr(asked), None);
    assert_eq!(line(":0@0 master,noaddr - 0 0 0 disconnected").addr(asked), None);
}

#[test]
fn lines_that_cannot_be_read_say_where() {
    for (text, what) in [
        ("", "the id"),
        ("07c37 127.0.0.1:1@2 master - 0 0 1 connected", "the id"),
        (&format!("{ID} localhost:1@2 master - 0 0 1 connected"), "the address"),
        (&format!("{ID} 127.0.0.1:70000@2 master - 0 0 1 connected"), "the address"),
        (&format!("{ID} 127.0.0.1:1@2 slave me 0 0 1 connected"), "the primary"),
        (&format!("{ID} 127.0.0.1:1@2 master - 0 0 -1 connected"), "the epoch"),
        (&format!("{ID} 127.0.0.1:1@2 master - 0 0 1"), "the link state"),
        (&format!("{ID} 127.0.0.1:1@2 master - 0 0 1 connected 16384"), "a slot range"),
        (&format!("{ID} 127.0.0.1:1@2 master - 0 0 1 connected 9-3"), "a slot range"),
        (&format!("{ID} 127.0.0.1:1@2 master - 0 0 1 connected [9->-x]"), "an open slot"),
    ] {
        assert_eq!(text.parse::<NodeLine>().unwrap_err().what, what, "{text}");
    }
}

prop_compose! {
    fn any_id()(digits in "[0-9a-f]{40}") -> NodeId { digits.parse().unwrap() }
}

prop_compose! {
    fn any_line()(
        id in any_id(), ip: Option<IpAddr>, port: u16, bus_port: u16, hostname in proptest::option::of("[a-z][a-z0-9.-]{0,20}"),
        flags in 0u16..256, primary in proptest::option::of(any_id()), epoch: u64, is_linked: bool,
        ranges in proptest::collection::vec((0u16..16384, 0u16..16384), 0..4),
        open in proptest::collection::vec((0u16..16384, any::<bool>(), any_id()), 0..3),
    ) -> NodeLine {
        let direction = |away| if away { Direction::Migrating } else { Direction::Importing };
        NodeLine {
            id, ip, port, bus_port, hostname, flags: Flags(flags), primary, epoch, is_linked,
            slots: ranges.into_iter().map(|(a, b)| SlotRange::new(a.min(b), a.max(b)).unwrap()).collect(),
            open_slots: open.into_iter().map(|(slot, away, peer)| OpenSlot {
                slot: Slot::new(slot).unwrap(), direction: direction(away), peer,
            }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(line in any_line()) {
        prop_assert_eq!(line.to_string().parse::<NodeLine>(), Ok(line));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text: String) {
        let _ = parse_nodes(&text);
    }

    #[test]
    fn no_damaged_line_makes_the_parser_panic(line in any_line(), at: prop::sample::Index, with: char) {
        let mut text: Vec<char> = line.to_string().chars().collect();
        let ix = at.index(text.len());
        text[ix] = with;
        let _ = parse_nodes(&text.into_iter().collect::<String>());
    }
}

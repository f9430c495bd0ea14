//! Whole reports of each kept server, read as they come: what a recorded or documented reply says is
//! what the parsers say.
//!
//! A file in `recorded/` is of one server. Its first line says whether it was recorded from that server or
//! written from its documentation, and which; then come the replies, each below a line that begins with
//! `==`.

use super::*;

/// The replies of one server, and what is in them.
struct Server {
    /// The file.
    text: &'static str,
    /// `INFO`: server and release.
    is: (&'static str, Release),
    /// `CLUSTER INFO`: known nodes, current epoch.
    cluster: (usize, u64),
    /// `CLUSTER NODES`, a member each: where it is, its name, its flags, whom it follows, epoch, link,
    /// slots, open slots.
    members: &'static [&'static str],
    /// `INFO` of a primary: keys, offset, bytes used, `maxmemory`, file, failed saves.
    primary: (u64, u64, u64, u64, bool, bool),
    /// `INFO` of a primary: its age in seconds; 0 where the documentation has none.
    uptime: u64,
    /// `INFO` of a primary: its availability zone.
    zone: Option<&'static str>,
    /// `INFO` of a replica: its primary, link, offset.
    replica: (&'static str, u16, bool, u64),
}

const SERVERS: [Server; 7] = [
    Server {
        text: include_str!("recorded/redis-5.txt"),
        is: ("redis 5.0.14", Release(5, 0)),
        cluster: (6, 6),
        members: &[
            "127.0.0.1:30004@40004 - slave e7d1eecc 4 linked",
            "127.0.0.1:30002@40002 - master - 2 linked 5461-10922",
            "127.0.0.1:30003@40003 - master - 3 linked 10923-16383",
            "127.0.0.1:30005@40005 - slave 67ed2db8 5 linked",
            "nowhere - slave,noaddr 292f8b36 6 cut",
            "127.0.0.1:30001@40001 - myself,master - 1 linked 0-5460 93 to 67ed2db8 77 from 292f8b36",
        ],
        primary: (12, 280, 2_600_000, 436_469_760, true, false),
        uptime: 0,
        zone: None,
        replica: ("127.0.0.1", 30001, false, 1),
    },
    Server {
        text: include_str!("recorded/redis-6.txt"),
        is: ("redis 6.2.14", Release(6, 2)),
        cluster: (6, 6),
        members: &[
            "[fd00::4]:6379@16379 - slave e7d1eecc 1 linked",
            "[fd00::2]:6379@16379 - master - 2 linked 5461-10922",
            "[fd00::3]:6379@16379 - master,fail? - 3 linked 10923-16383",
            "[fd00::5]:6379@16379 - handshake - 0 cut",
            "[fd00::1]:6379@16379 - myself,master - 1 linked 0-92 94-5460",
        ],
        primary: (3, 280, 1_878_048, 0, false, false),
        uptime: 0,
        zone: None,
        replica: ("fd00::1", 6379, true, 280),
    },
    Server {
        text: include_str!("recorded/redis-7.0.txt"),
        is: ("redis 7.0.15", Release(7, 0)),
        cluster: (4, 4),
        members: &[
            "127.0.0.1:21304@31304 - slave,nofailover f314f979 3 linked",
            "127.0.0.1:21301@31301 - master - 1 linked 0-5460 16381",
            "127.0.0.1:21303@31303 - master - 3 linked 10923-16380 16383",
            "127.0.0.1:21302@31302 node-2.example myself,master - 2 linked 5461-10922 16382 93 from a8c08237",
        ],
        primary: (3, 194, 1_897_008, 0, false, false),
        uptime: 9,
        zone: None,
        replica: ("127.0.0.1", 21303, true, 194),
    },
    Server {
        text: include_str!("recorded/redis-7.2.txt"),
        is: ("redis 7.2.4", Release(7, 2)),
        cluster: (6, 6),
        members: &[
            "127.0.0.1:30004@31004 hostname4 slave e7d1eecc 4 linked",
            "127.0.0.1:30002@31002 hostname2 master - 2 linked 5461-10922",
            "127.0.0.1:30003@31003 hostname3 master - 3 linked 10923-16383",
            "127.0.0.1:30005@31005 hostname5 slave 67ed2db8 5 linked",
            "127.0.0.1:30006@31006 hostname6 slave 292f8b36 6 linked",
            "127.0.0.1:30001@31001 hostname1 myself,master - 1 linked 0-5460",
        ],
        primary: (3, 280, 1_878_048, 104_857_600, false, false),
        uptime: 0,
        zone: None,
        replica: ("127.0.0.1", 30001, true, 280),
    },
    Server {
        text: include_str!("recorded/redis-8.txt"),
        is: ("redis 8.2.1", Release(8, 2)),
        cluster: (6, 6),
        members: &[
            "127.0.0.1:30004@40004 - slave e7d1eecc 1 linked",
            "127.0.0.1:30002@40002 redis-1.example master,fail - 2 cut 5461-10922",
            "127.0.0.1:30003@40003 - master,nofailover - 3 linked 10923-16381 16383",
            "127.0.0.1:30001@40001 redis-0.example myself,master - 1 linked 0-5460 16382",
        ],
        primary: (3, 280, 3_878_048, 0, true, true),
        uptime: 0,
        zone: None,
        replica: ("127.0.0.1", 30001, true, 280),
    },
    Server {
        text: include_str!("recorded/valkey-8.0.txt"),
        is: ("valkey 8.0.1", Release(7, 2)),
        cluster: (4, 4),
        members: &[
            "127.0.0.1:21403@31403 - master - 3 linked 10923-16380 16383",
            "127.0.0.1:21401@31401 - master - 1 linked 0-5460 16381",
            "127.0.0.1:21402@31402 node-2.example myself,master - 2 linked 5461-10922 16382 93 from 7da6a6c1",
            "127.0.0.1:21404@31404 - slave,nofailover 1f92ceb4 3 linked",
        ],
        primary: (3, 194, 2_982_288, 0, false, false),
        uptime: 9,
        zone: None,
        replica: ("127.0.0.1", 21403, true, 194),
    },
    Server {
        text: include_str!("recorded/valkey-9.txt"),
        is: ("valkey 9.0.0", Release(7, 2)),
        cluster: (6, 6),
        members: &[
            "10.0.0.4:6379@16379 hostname4 slave e7d1eecc 1 linked",
            "10.0.0.2:6379@16379 hostname2 master - 2 linked 5461-10922",
            "10.0.0.3:6379@16379 hostname3 master - 3 linked 10923-16383",
            "nowhere - master,fail,noaddr - 0 cut",
            "10.0.0.1:6379@16379 hostname1 myself,master - 1 linked 0-5460 93 to 67ed2db8",
        ],
        primary: (43, 280, 2_982_288, 0, false, false),
        uptime: 0,
        zone: Some("eu-central-1a"),
        replica: ("10.0.0.1", 6379, true, 280),
    },
];

impl Server {
    /// Where its replies come from, which names it in a failure.
    fn origin(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    fn find(&self, title: &str) -> Option<&str> {
        let mut replies = self.text.split("\n== ").skip(1).filter_map(|reply| reply.split_once('\n'));
        replies.find(|(of, _)| *of == title).map(|(_, reply)| reply)
    }

    /// A reply as it comes over the wire, where `INFO` ends its lines as the protocol does.
    fn reply(&self, title: &str) -> String {
        let reply = self.find(title).unwrap_or_else(|| panic!("{title} is missing: {}", self.origin()));
        if title.contains("INFO") { reply.replace('\n', "\r\n") } else { reply.to_string() }
    }

    fn lines(&self, title: &str) -> Vec<NodeLine> {
        parse_nodes(&self.reply(title)).unwrap_or_else(|error| panic!("{error}: {}", self.origin()))
    }
}

/// Everything that was read of a member.
fn shown(line: &NodeLine) -> String {
    let at = match line.ip {
        Some(ip) => format!("{}@{}", SocketAddr::new(ip, line.port), line.bus_port),
        None if line.port == 0 => "nowhere".to_string(),
        None => format!("here:{}@{}", line.port, line.bus_port),
    };
    let name = line.hostname.clone().unwrap_or("-".into());
    let primary = line.primary.map_or("-".to_string(), |id| id.short().to_string());
    let link = if line.is_linked { "linked" } else { "cut" };
    let mut out = format!("{at} {name} {} {primary} {} {link}", line.flags, line.epoch);
    for range in &line.slots {
        out += &format!(" {range}");
    }
    for open in &line.open_slots {
        let way = if open.direction == Direction::Migrating { "to" } else { "from" };
        out += &format!(" {} {way} {}", open.slot, open.peer.short());
    }
    out
}

#[test]
fn every_file_says_where_it_is_from() {
    for server in &SERVERS {
        let origin = server.origin();
        assert!(
            origin.starts_with("Recorded from ") || origin.starts_with("Written from https://"),
            "{origin}"
        );
    }
}

#[test]
fn members_are_read_as_each_server_tells_of_them() {
    for server in &SERVERS {
        let members: Vec<String> = server.lines("CLUSTER NODES").iter().map(shown).collect();
        assert_eq!(members, server.members, "{}", server.origin());
        let alone: Vec<String> = server.lines("CLUSTER NODES alone").iter().map(shown).collect();
        assert!(
            alone[0].starts_with("here:") && alone[0].ends_with(" - myself,master - 0 linked"),
            "{alone:?}"
        );
        let asked: SocketAddr = "10.0.0.9:1".parse().unwrap();
        let view = read_view(asked, &server.reply("CLUSTER NODES"), &server.reply("CLUSTER INFO")).unwrap();
        assert!(view.myself().flags.has(Flags::MYSELF), "{}", server.origin());
    }
}

#[test]
fn what_a_server_says_of_the_cluster_is_read() {
    for server in &SERVERS {
        let cluster = ClusterInfo::parse(&server.reply("CLUSTER INFO"));
        let (known_nodes, current_epoch) = server.cluster;
        assert_eq!(cluster, ClusterInfo { is_ok: true, known_nodes, current_epoch }, "{}", server.origin());
    }
}

#[test]
fn what_a_server_says_of_itself_is_read() {
    for server in &SERVERS {
        let primary = NodeInfo::parse(&server.reply("INFO of a primary"));
        let (keys, offset, used, max, has_config_file, has_save_failed) = server.primary;
        let expected = NodeInfo {
            server: server.is.0.into(),
            release: server.is.1,
            is_cluster: true,
            uptime: Duration::from_secs(server.uptime),
            keys,
            offset,
            memory: Memory { used, max },
            has_config_file,
            has_save_failed,
            zone: server.zone.map(String::from),
            ..NodeInfo::default()
        };
        assert_eq!(primary, expected, "{}", server.origin());
        let replica = NodeInfo::parse(&server.reply("INFO of a replica"));
        let (host, primary_port, is_link_up, offset) = server.replica;
        let role = Role::Replica { primary_host: host.into(), primary_port, is_link_up };
        assert_eq!((replica.role, replica.offset), (role, offset), "{}", server.origin());
    }
}

#[test]
fn a_loss_is_read_where_it_was_recorded() {
    let recorded: Vec<&Server> =
        SERVERS.iter().filter(|server| server.origin().starts_with("Recorded")).collect();
    assert_eq!(recorded.len(), 2);
    for server in recorded {
        assert!(!ClusterInfo::parse(&server.reply("CLUSTER INFO after a loss")).is_ok);
        let members: Vec<String> = server.lines("CLUSTER NODES after a loss").iter().map(shown).collect();
        let is_lost = |member: &&String| member.ends_with(" - master,fail - 3 cut 10923-16380 16383");
        assert_eq!(members.iter().filter(is_lost).count(), 1, "{members:?}");
        let is_open = |member: &&String| member.contains(" 0-5460 16381 93 to ");
        assert_eq!(members.iter().filter(is_open).count(), 1, "{members:?}");
    }
}

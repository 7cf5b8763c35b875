//! Producers with a seed: a month of rows of every table, with moves, tombstones, duplicates, late and future events, poison, and markers.

use leadpulse_graph::DAY_MS;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::rig::Put::{Double, List, Long, Text, Time};
use super::rig::Rig;

const HOUR_MS: i64 = 3_600_000;
const START_MS: i64 = 1_700_000_000_000;

const ACCOUNTS: u64 = 12;
const CONTACTS: u64 = 25;
const LEADS: u64 = 6;
const DEALS: u64 = 8;
/// Ids of decisions: few, so that later ones replace earlier ones.
const DECISIONS: u64 = 20;

pub struct Market {
    generator: ChaCha8Rng,
    pub now_ms: i64,
    sent: u64,
    /// Whether people decide about alerts and answer them.
    has_people: bool,
}

impl Market {
    pub fn new(seed: u64) -> Self {
        Self {
            generator: ChaCha8Rng::seed_from_u64(seed),
            now_ms: START_MS,
            sent: 0,
            has_people: false,
        }
    }

    /// A market with decisions of people about alerts, and with answers to them.
    pub fn with_people(seed: u64) -> Self {
        Self {
            has_people: true,
            ..Self::new(seed)
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.generator.random_range(0..n)
    }
    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
    fn chance(&mut self, probability: f64) -> bool {
        self.generator.random_bool(probability)
    }

    /// Lets time pass in which nothing is sent.
    pub fn skip(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    /// Sends so many records, over about a month.
    pub fn send(&mut self, rig: &Rig, records: u64) {
        self.send_within(rig, records, 30);
    }

    /// Sends so many records, over about so many days.
    pub fn send_within(&mut self, rig: &Rig, records: u64, days: i64) {
        let pace_ms = 2 * days * DAY_MS / records as i64;
        for _ in 0..records {
            self.now_ms += self.generator.random_range(0..pace_ms);
            self.sent += 1;
            if self.has_people && self.chance(0.15) {
                self.person(rig);
                continue;
            }
            match self.below(100) {
                0..10 => self.account(rig),
                10..22 => self.contact(rig),
                22..25 => self.tombstone(rig),
                25..30 => self.lead(rig),
                30..35 => self.deal(rig),
                35..40 => self.stage(rig),
                40..52 => self.view(rig),
                52..56 => self.again(rig),
                56..58 => {
                    let partition = self.below(8) as usize;
                    rig.broker.append_marker(partition);
                }
                58..61 => self.poison(rig),
                _ => self.activity(rig),
            }
        }
    }

    /// A word of a person: mostly a decision, sometimes one that is taken back, repeated, late,
    /// ahead of the clock, or of no known word.
    fn person(&mut self, rig: &Rig) {
        let partition = rig.partition_of("overrides");
        let id = format!("D{}", self.below(DECISIONS));
        match self.below(20) {
            0 => {
                rig.produce(partition, self.now_ms, Some(id.as_bytes()), None);
            }
            1 => self.again_of(rig, partition),
            2 => self.answer(rig),
            kind => {
                let decided_at = match kind {
                    3 => self.now_ms - 2 * DAY_MS,
                    4 => self.now_ms + HOUR_MS,
                    _ => self.now_ms,
                };
                let decision = self.pick(&["pin", "mute", "mute", "exclude", "none"]);
                let decision = if kind == 5 { "silence" } else { decision };
                let until = self.now_ms + HOUR_MS * self.below(96) as i64;
                let (field, key) = match self.below(6) {
                    0..3 => ("account_id", format!("A{}", self.below(ACCOUNTS))),
                    3 => ("lead_id", format!("L{}", self.below(LEADS))),
                    _ => ("contact_id", format!("C{}", self.below(CONTACTS))),
                };
                let fields = [
                    ("override_id", Text(id.as_str())),
                    ("decided_at", Time(decided_at)),
                    ("decision", Text(decision)),
                    ("decided_by", Text("ann")),
                    (field, Text(&key)),
                    ("until", Time(until)),
                ];
                let fields = match self.chance(0.5) {
                    true => &fields[..],
                    false => &fields[..5],
                };
                rig.send("overrides", self.now_ms, fields);
            }
        }
    }

    fn answer(&mut self, rig: &Rig) {
        let id = format!("alert-{}", self.below(5));
        let verdict = self.pick(&["accepted", "rejected", "perhaps"]);
        let fields = [
            ("alert_id", Text(&id)),
            ("given_at", Time(self.now_ms)),
            ("verdict", Text(verdict)),
            ("given_by", Text("bob")),
        ];
        rig.send("feedback", self.now_ms, &fields);
    }

    fn account(&mut self, rig: &Rig) {
        let number = self.below(ACCOUNTS);
        let key = format!("A{number}");
        let industry = self.pick(&["Software", "Retail", "Energy"]);
        let tech: &[&str] = self.pick(&[&["aws"][..], &["aws", "kafka"], &["gcp", "kafka"], &[]]);
        let employees = self.below(5000) as i64;
        let mut fields = vec![
            ("account_id", Text(&key)),
            ("updated_at", Time(self.now_ms)),
            ("name", Text("Acme")),
            ("industry", Text(industry)),
            ("region", Text("EMEA")),
            ("tech_stack", List(tech)),
            ("employee_count", Long(employees)),
        ];
        // A row in short takes the account from its owner.
        fields.extend(match number % 3 {
            0 => Some(("owner_id", Text("ann"))),
            1 => Some(("owner_id", Text("bob"))),
            _ => None,
        });
        if !self.chance(0.8) {
            fields.truncate(3);
        }
        rig.send("accounts", self.now_ms, &fields);
    }

    fn contact(&mut self, rig: &Rig) {
        let number = self.below(CONTACTS);
        let home = if self.chance(0.85) {
            number
        } else {
            self.below(ACCOUNTS)
        };
        let (key, account) = (format!("C{number}"), format!("A{}", home % ACCOUNTS));
        let seniority = self.pick(&["IC", "VP", "C-Level"]);
        let score = self.below(100) as f64;
        let mut fields = vec![
            ("contact_id", Text(key.as_str())),
            ("updated_at", Time(self.now_ms)),
            ("engagement_score", Double(score)),
        ];
        if self.chance(0.9) {
            fields.push(("account_id", Text(&account)));
        }
        if self.chance(0.8) {
            fields.push(("seniority", Text(seniority)));
        }
        if self.chance(0.2) {
            fields.push(("changed_fields", List(&["engagement_score"])));
        }
        rig.send("contacts", self.now_ms, &fields);
    }

    fn lead(&mut self, rig: &Rig) {
        let (key, account) = (
            format!("L{}", self.below(LEADS)),
            format!("A{}", self.below(ACCOUNTS)),
        );
        let status = self.pick(&["Open", "MQL", "SQL"]);
        let fields = [
            ("lead_id", Text(&key)),
            ("updated_at", Time(self.now_ms)),
            ("status", Text(status)),
            ("account_id", Text(&account)),
        ];
        let fields = if self.chance(0.5) {
            &fields[..]
        } else {
            &fields[..3]
        };
        rig.send("leads", self.now_ms, fields);
    }

    fn deal(&mut self, rig: &Rig) {
        let number = self.below(DEALS);
        let (key, account) = (format!("O{number}"), format!("A{number}"));
        let (stage, amount) = (
            self.pick(&["Discovery", "Proposal", "Closed Won"]),
            self.below(100_000) as f64,
        );
        let fields = [
            ("opportunity_id", Text(&key)),
            ("updated_at", Time(self.now_ms)),
            ("account_id", Text(&account)),
            ("stage", Text(stage)),
            ("amount", Double(amount)),
        ];
        rig.send("opportunities", self.now_ms, &fields);
    }

    fn stage(&mut self, rig: &Rig) {
        let (id, deal) = (format!("s{}", self.sent), format!("O{}", self.below(DEALS)));
        let stage = self.pick(&["Discovery", "Proposal", "Closed Won", "Closed Lost"]);
        let at_ms = self.event_ms();
        let fields = [
            ("change_id", Text(&id)),
            ("changed_at", Time(at_ms)),
            ("opportunity_id", Text(&deal)),
            ("to_stage", Text(stage)),
        ];
        rig.send("opportunity_stage_changes", self.now_ms, &fields);
    }

    fn view(&mut self, rig: &Rig) {
        let (id, contact) = (
            format!("v{}", self.sent),
            format!("C{}", self.below(CONTACTS)),
        );
        let kind = self.pick(&["blog", "pricing", "case_study", "podcast"]);
        let (at_ms, seconds) = (self.event_ms(), self.below(600) as f64);
        let fields = [
            ("view_id", Text(&id)),
            ("content_type", Text(kind)),
            ("occurred_at", Time(at_ms)),
            ("contact_id", Text(&contact)),
            ("seconds", Double(seconds)),
        ];
        rig.send("content_views", self.now_ms, &fields);
    }

    fn activity(&mut self, rig: &Rig) {
        let id = format!("a{}", self.sent);
        let owner = self.below(CONTACTS);
        let (field, key) = match self.below(10) {
            0 => ("account_id", format!("A{}", owner % ACCOUNTS)),
            1 => ("lead_id", format!("L{}", owner % LEADS)),
            2 => ("opportunity_id", format!("O{}", owner % DEALS)),
            _ => ("contact_id", format!("C{owner}")),
        };
        let kind = self.pick(&[
            "email_open",
            "web_visit",
            "pricing_page_view",
            "demo_request",
            "meeting",
            "carrier_pigeon",
        ]);
        let at_ms = self.event_ms();
        let fields = [
            ("activity_id", Text(id.as_str())),
            ("type", Text(kind)),
            ("occurred_at", Time(at_ms)),
            (field, Text(&key)),
        ];
        let partition = rig.partition_of("activities") + (owner % 2) as usize;
        rig.produce(
            partition,
            self.now_ms,
            Some(key.as_bytes()),
            Some(rig.encode("activities", &fields)),
        );
    }

    /// Mostly a little before it is known; sometimes too late, sometimes ahead.
    fn event_ms(&mut self) -> i64 {
        match self.below(100) {
            0..3 => self.now_ms - 9 * DAY_MS,
            3 => self.now_ms + HOUR_MS,
            _ => self.now_ms - self.below(3 * HOUR_MS as u64) as i64,
        }
    }

    fn tombstone(&mut self, rig: &Rig) {
        let (table, key) = match self.below(3) {
            0 => ("accounts", format!("A{}", self.below(ACCOUNTS))),
            1 => ("contacts", format!("C{}", self.below(CONTACTS))),
            _ => ("leads", format!("L{}", self.below(LEADS))),
        };
        rig.produce(
            rig.partition_of(table),
            self.now_ms,
            Some(key.as_bytes()),
            None,
        );
    }

    /// A record of the past once more, to the same partition.
    fn again(&mut self, rig: &Rig) {
        let partition = self.below(8) as usize;
        self.again_of(rig, partition);
    }

    fn again_of(&mut self, rig: &Rig, partition: usize) {
        let messages = rig.broker.lock().input[partition].clone();
        if let Some(last) = messages.len().checked_sub(1) {
            let message = messages[self.below(last as u64 + 1) as usize].clone();
            rig.produce(
                partition,
                self.now_ms,
                message.key.as_deref(),
                message.value,
            );
        }
    }

    fn poison(&mut self, rig: &Rig) {
        let partition = self.below(8) as usize;
        let good: Vec<u8> = rig.encode(
            "accounts",
            &[
                ("account_id", Text("A1")),
                ("updated_at", Time(self.now_ms)),
            ],
        );
        let bad = match self.below(5) {
            0 => Vec::new(),
            1 => b"{\"json\":1}".to_vec(),
            2 => good[..good.len() - 1].to_vec(),
            3 => [&good[..], b"x"].concat(),
            _ => [&[0, 0xff, 0xff, 0xff, 0xff][..], b"body"].concat(),
        };
        rig.produce(partition, self.now_ms, Some(b"key"), Some(bad));
    }
}

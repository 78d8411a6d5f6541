//! Turns: several emulators run the same tests at the same time, a round each in turn, so that whatever else the host
//! does falls on all of them alike. The others wait idle meanwhile.

use std::time::Duration;

use super::kit;
use super::session::{Session, Stop};

/// Where a guest stands in the order of all rounds: kit, test, turns taken at this test.
type Place = (usize, usize, usize);

/// One emulator among those that take turns.
pub struct Player {
    /// Its name.
    pub machine: String,
    /// Its running guest.
    pub session: Session,
    /// Where it stopped last.
    pub stop: Stop,
    turns: usize,
}

impl Player {
    /// An emulator whose guest stopped there.
    pub fn new(machine: String, session: Session, stop: Stop) -> Player {
        Player { machine, session, stop, turns: 0 }
    }

    fn place(&self, kits: &[String]) -> Option<Place> {
        let Stop::Ready { kit, test } = &self.stop else { return None };
        let kit = kits.iter().position(|known| known == kit).unwrap_or(usize::MAX);
        Some((kit, kit::order(test), self.turns))
    }

    fn play(&mut self, limit: Duration) {
        let stop = self.session.turn(limit);
        // Tests without a known order are the same for everyone: counting on keeps them in step.
        let counts_on =
            kit::order(test_of(&self.stop)) == usize::MAX || test_of(&stop) == test_of(&self.stop);
        self.turns = if counts_on { self.turns + 1 } else { 0 };
        self.stop = stop;
    }
}

fn test_of(stop: &Stop) -> &str {
    match stop {
        Stop::Ready { test, .. } => test,
        _ => "",
    }
}

/// Plays until every guest has ended or is lost.
pub fn play(players: &mut [Player], kits: &[String], limit: Duration) {
    loop {
        let places: Vec<Option<Place>> = players.iter().map(|player| player.place(kits)).collect();
        let Some(next) = next(&places) else { return };
        let player = &mut players[next];
        if player.turns == 0 {
            println!("bench: {} {}", player.machine, test_of(&player.stop));
        }
        player.play(limit);
        if player.stop == Stop::Lost {
            println!("bench: {} is lost", player.machine);
        }
    }
}

/// Who is next: the one that is furthest behind, and among equals each begins in turn.
fn next(places: &[Option<Place>]) -> Option<usize> {
    let count = places.len();
    let waiting = places.iter().enumerate().filter_map(|(at, place)| Some((at, (*place)?)));
    let turn_of = |(at, place): &(usize, Place)| (*place, (at + count - place.2 % count) % count);
    waiting.min_by_key(turn_of).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn furthest_behind_is_next() {
        assert_eq!(next(&[Some((0, 3, 1)), Some((0, 2, 4)), None]), Some(1));
        assert_eq!(next(&[Some((1, 0, 0)), Some((0, 9, 9))]), Some(1));
        assert_eq!(next(&[None, None]), None);
    }

    #[test]
    fn among_equals_each_begins_in_turn() {
        let at_round = |round| next(&[Some((0, 0, round)); 3]);
        assert_eq!([0, 1, 2, 3].map(at_round), [Some(0), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn one_round_goes_around_everybody() {
        let mut places = [Some((0, 0, 1)); 3];
        let mut order = Vec::new();
        for _ in 0..3 {
            let at = next(&places).unwrap();
            order.push(at);
            places[at] = Some((0, 0, 2));
        }
        assert_eq!(order, [1, 2, 0]);
    }
}

//! The hot path allocates nothing: a counting allocator is for a whole process, so this is one of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use slotgate::command::{KeyRef, Lookup, Table, extract};
use slotgate::resp::{Request, Span};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = run();
    (COUNT.with(Cell::get) - before, result)
}

#[test]
fn finding_a_command_and_its_keys_allocates_nothing() {
    let (built, table) = allocations(Table::builtin);
    assert!(built > 0, "the allocator does not count");
    let mut keys: Vec<KeyRef> = Vec::with_capacity(16);
    for line in [
        "GET k",
        "get k",
        "SET k v EX 10 NX",
        "MGET a b c d e f g h",
        "MSET a 1 b 2 c 3",
        "DEL a b c",
        "GeoRadiusByMember k m 1 m STORE d",
        "OBJECT ENCODING k",
        "CLUSTER COUNT-FAILURE-REPORTS n",
        "EVAL s 2 a b c",
        "XREADGROUP GROUP g c STREAMS a b > >",
        "SORT k BY w_* STORE d",
        "NOSUCHCOMMAND k",
        "CONFIG NOSUCH",
    ] {
        let mut spans = Vec::new();
        let mut end = 0;
        for word in line.split(' ') {
            spans.push(Span { start: end, end: end + word.len() as u32 });
            end += word.len() as u32 + 1;
        }
        let request = Request::new(line.as_bytes(), &spans);
        let (count, found) = allocations(|| match table.lookup(&request) {
            Lookup::Found(_, spec) => extract(spec, &request, &mut keys).is_ok(),
            Lookup::Unknown | Lookup::UnknownSubcommand(_) => false,
        });
        assert_eq!(count, 0, "{line}");
        assert_eq!(found, !line.contains("NOSUCH"), "{line}");
    }
}

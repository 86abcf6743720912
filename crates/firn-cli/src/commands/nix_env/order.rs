//! The order of the list: by name without regard to case.
//!
//! Nix sorts with C++'s `std::sort`, which is not stable: packages of one name come in an order that is no
//! accident but follows from the algorithm of libstdc++ (introsort: quicksort on the median of three down to
//! runs of 16, heapsort where that goes too deep, insertion sort at the end). Scripts compare lists, so the
//! same steps are taken here.

/// Runs this short are left to the insertion sort.
const RUN: usize = 16;

/// What names are compared by: bytes in upper case, as C's signed `char`.
pub fn key(name: &str) -> Vec<i8> {
    name.bytes().map(|byte| byte.to_ascii_uppercase().cast_signed()).collect()
}

/// Sorts as described above.
pub fn sort<T>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    if items.is_empty() {
        return;
    }
    let depth = 2 * items.len().ilog2();
    quicksort(items, depth, &less);
    for last in 1..items.len() {
        // The whole list is only looked through for the first run; later items find a smaller one on the way.
        if last < RUN && less(&items[last], &items[0]) {
            items[..=last].rotate_right(1);
        } else {
            let mut to = last;
            while to > 0 && less(&items[last], &items[to - 1]) {
                to -= 1;
            }
            items[to..=last].rotate_right(1);
        }
    }
}

fn quicksort<T>(mut items: &mut [T], mut depth: u32, less: &impl Fn(&T, &T) -> bool) {
    while items.len() > RUN {
        if depth == 0 {
            heapsort(items, less);
            return;
        }
        depth -= 1;
        median_to_front(items, less);
        let cut = partition(items, less);
        let (left, right) = items.split_at_mut(cut);
        quicksort(right, depth, less);
        items = left;
    }
}

/// Swaps the median of the second, the middle and the last item with the first.
fn median_to_front<T>(items: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    let (a, b, c) = (1, items.len() / 2, items.len() - 1);
    let below = |x: usize, y: usize| less(&items[x], &items[y]);
    let median = if below(a, b) {
        if below(b, c) {
            b
        } else if below(a, c) {
            c
        } else {
            a
        }
    } else if below(a, c) {
        a
    } else if below(b, c) {
        c
    } else {
        b
    };
    items.swap(0, median);
}

/// Parts all but the first item by it; gives where the upper part starts.
fn partition<T>(items: &mut [T], less: &impl Fn(&T, &T) -> bool) -> usize {
    let (mut first, mut last) = (1, items.len());
    loop {
        while first < items.len() && less(&items[first], &items[0]) {
            first += 1;
        }
        last -= 1;
        while last > 0 && less(&items[0], &items[last]) {
            last -= 1;
        }
        if first >= last {
            return first;
        }
        items.swap(first, last);
        first += 1;
    }
}

fn heapsort<T>(items: &mut [T], less: &impl Fn(&T, &T) -> bool) {
    for parent in (0..items.len() / 2).rev() {
        sink(items, parent, less);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sink(&mut items[..end], 0, less);
    }
}

/// Brings the item at `top` down to where it belongs: the hole goes to the bottom along the larger children,
/// and up again from there.
fn sink<T>(items: &mut [T], top: usize, less: &impl Fn(&T, &T) -> bool) {
    let (mut hole, len) = (top, items.len());
    loop {
        let right = 2 * hole + 2;
        let child = if right < len {
            if less(&items[right], &items[right - 1]) { right - 1 } else { right }
        } else if right == len {
            right - 1
        } else {
            break;
        };
        items.swap(hole, child);
        hole = child;
    }
    while hole > top {
        let parent = (hole - 1) / 2;
        if parent < top || !less(&items[parent], &items[hole]) {
            break;
        }
        items.swap(parent, hole);
        hole = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are spread but not sorted.
    fn scattered(count: u32, range: u32) -> Vec<(u32, u32)> {
        (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 7, i)).map(|(x, i)| (x % range, i)).collect()
    }

    #[test]
    fn everything_is_there_and_in_order() {
        for count in [0, 1, 2, 15, 16, 17, 33, 100, 5000] {
            for range in [1, 3, 50, 100_000] {
                let mut items = scattered(count, range);
                sort(&mut items, |a, b| a.0 < b.0);
                assert!(items.is_sorted_by_key(|item| item.0), "{count} {range}");
                let mut places: Vec<u32> = items.iter().map(|item| item.1).collect();
                places.sort_unstable();
                assert!(places.into_iter().eq(0..count), "{count} {range}");
                heapsort(&mut items, &|a, b| a.1 < b.1);
                assert!(items.is_sorted_by_key(|item| item.1), "{count} {range}");
            }
        }
    }

    #[test]
    fn case_does_not_count() {
        assert!(key("Abc") == key("aBC") && key("a-b") < key("a_b"));
        assert!(key("a") > key("\u{e9}"), "bytes beyond ASCII are negative");
    }
}

//! The digits of a number as Loitsch's algorithm Grisu2 finds them ("Printing Floating-Point Numbers Quickly and Accurately
//! with Integers", 2010). They read back as the same number; once in a thousand they are not the shortest or the nearest
//! ones. The reference prints JSON so, and what is printed ends up in derivations, so these digits it has to be.

/// 10^(-300 + 8 i), as the 64 bits of it that count, rounded.
const POWERS: [u64; 79] = [
    0xab70fe17c79ac6ca,
    0xff77b1fcbebcdc4f,
    0xbe5691ef416bd60c,
    0x8dd01fad907ffc3c,
    0xd3515c2831559a83,
    0x9d71ac8fada6c9b5,
    0xea9c227723ee8bcb,
    0xaecc49914078536d,
    0x823c12795db6ce57,
    0xc21094364dfb5637,
    0x9096ea6f3848984f,
    0xd77485cb25823ac7,
    0xa086cfcd97bf97f4,
    0xef340a98172aace5,
    0xb23867fb2a35b28e,
    0x84c8d4dfd2c63f3b,
    0xc5dd44271ad3cdba,
    0x936b9fcebb25c996,
    0xdbac6c247d62a584,
    0xa3ab66580d5fdaf6,
    0xf3e2f893dec3f126,
    0xb5b5ada8aaff80b8,
    0x87625f056c7c4a8b,
    0xc9bcff6034c13053,
    0x964e858c91ba2655,
    0xdff9772470297ebd,
    0xa6dfbd9fb8e5b88f,
    0xf8a95fcf88747d94,
    0xb94470938fa89bcf,
    0x8a08f0f8bf0f156b,
    0xcdb02555653131b6,
    0x993fe2c6d07b7fac,
    0xe45c10c42a2b3b06,
    0xaa242499697392d3,
    0xfd87b5f28300ca0e,
    0xbce5086492111aeb,
    0x8cbccc096f5088cc,
    0xd1b71758e219652c,
    0x9c40000000000000,
    0xe8d4a51000000000,
    0xad78ebc5ac620000,
    0x813f3978f8940984,
    0xc097ce7bc90715b3,
    0x8f7e32ce7bea5c70,
    0xd5d238a4abe98068,
    0x9f4f2726179a2245,
    0xed63a231d4c4fb27,
    0xb0de65388cc8ada8,
    0x83c7088e1aab65db,
    0xc45d1df942711d9a,
    0x924d692ca61be758,
    0xda01ee641a708dea,
    0xa26da3999aef774a,
    0xf209787bb47d6b85,
    0xb454e4a179dd1877,
    0x865b86925b9bc5c2,
    0xc83553c5c8965d3d,
    0x952ab45cfa97a0b3,
    0xde469fbd99a05fe3,
    0xa59bc234db398c25,
    0xf6c69a72a3989f5c,
    0xb7dcbf5354e9bece,
    0x88fcf317f22241e2,
    0xcc20ce9bd35c78a5,
    0x98165af37b2153df,
    0xe2a0b5dc971f303a,
    0xa8d9d1535ce3b396,
    0xfb9b7cd9a4a7443c,
    0xbb764c4ca7a44410,
    0x8bab8eefb6409c1a,
    0xd01fef10a657842c,
    0x9b10a4e5e9913129,
    0xe7109bfba19c0c9d,
    0xac2820d9623bf429,
    0x80444b5e7aa7cf85,
    0xbf21e44003acdd2d,
    0x8e679c2f5e44ff8f,
    0xd433179d9c8cb841,
    0x9e19db92b4e31ba9,
];

/// The exponent of ten of the first of [`POWERS`], and the step from each to the next.
const FIRST: i32 = -300;
const STEP: i32 = 8;

/// Powers are chosen such that products have an exponent of two from this on, up to 32 more.
const LOWEST: i32 = -60;

/// `f * 2^e`.
#[derive(Clone, Copy)]
struct Scaled {
    f: u64,
    e: i32,
}

impl Scaled {
    fn normalised(self) -> Self {
        let shift = self.f.leading_zeros();
        Self { f: self.f << shift, e: self.e - shift as i32 }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.f) * u128::from(other.f) + (1 << 63);
        Self { f: (product >> 64) as u64, e: self.e + other.e + 64 }
    }
}

/// A power of ten, with its exponent, that brings a number with exponent `e` into the range where digits are made.
fn power_for(e: i32) -> (Scaled, i32) {
    let f = LOWEST - e - 1;
    // 78913 / 2^18 is the logarithm of 2 to the base 10.
    let k = f * 78_913 / (1 << 18) + i32::from(f > 0);
    let index = (k - FIRST + STEP - 1) / STEP;
    let exponent = FIRST + index * STEP;
    // 1741647 / 2^19 is that of 10 to the base 2.
    (Scaled { f: POWERS[index as usize], e: ((exponent * 1_741_647) >> 19) - 63 }, exponent)
}

/// The digits of a positive number that is not infinite, and how many zeros follow them (or, if negative, how many of them are
/// behind the point).
pub fn digits(value: f64) -> (Vec<u8>, i32) {
    let bits = value.to_bits();
    let (fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) as i32);
    let number = match biased {
        0 => Scaled { f: fraction, e: 1 - 1075 },
        _ => Scaled { f: fraction | 1 << 52, e: biased - 1075 },
    };
    // Half way to the neighbours; below a power of two they are nearer.
    let above = Scaled { f: 2 * number.f + 1, e: number.e - 1 }.normalised();
    let below = match fraction == 0 && biased > 1 {
        true => Scaled { f: 4 * number.f - 1, e: number.e - 2 },
        false => Scaled { f: 2 * number.f - 1, e: number.e - 1 },
    };
    let below = Scaled { f: below.f << (below.e - above.e), e: above.e };
    let (power, exponent) = power_for(above.e);
    let number = number.normalised().times(power);
    // One unit inside, since the products are not exact.
    let (high, low) = (above.times(power).f - 1, below.times(power).f + 1);
    generate(number, high, low, -exponent)
}

fn generate(number: Scaled, high: u64, low: u64, mut exponent: i32) -> (Vec<u8>, i32) {
    let shift = -number.e;
    let one = 1_u64 << shift;
    let (mut delta, mut distance) = (high - low, high - number.f);
    let (mut whole, mut rest) = (high >> shift, high & (one - 1));
    let mut digits = Vec::with_capacity(18);
    let mut left = whole.max(1).ilog10() as i32 + 1;
    let mut unit = 10_u64.pow(left.unsigned_abs() - 1);
    while left > 0 {
        digits.push(b'0' + (whole / unit) as u8);
        whole %= unit;
        left -= 1;
        let remaining = (whole << shift) + rest;
        if remaining <= delta {
            exponent += left;
            approach(&mut digits, distance, delta, remaining, unit << shift);
            return (digits, exponent);
        }
        unit /= 10;
    }
    loop {
        rest *= 10;
        digits.push(b'0' + (rest >> shift) as u8);
        rest &= one - 1;
        exponent -= 1;
        delta *= 10;
        distance *= 10;
        if rest <= delta {
            approach(&mut digits, distance, delta, rest, one);
            return (digits, exponent);
        }
    }
}

/// Makes the last digit smaller while that brings the digits nearer to the number.
fn approach(digits: &mut [u8], distance: u64, delta: u64, mut rest: u64, unit: u64) {
    while rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        if let Some(last) = digits.last_mut() {
            *last -= 1;
        }
        rest += unit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, expected: &str, exponent: i32) {
        let (digits, found) = digits(value);
        assert_eq!((String::from_utf8(digits).unwrap().as_str(), found), (expected, exponent));
    }

    #[test]
    fn known_digits() {
        check(1.0, "1", 0);
        check(0.1, "1", -1);
        check(123_456_789.0, "123456789", 0);
        check(f64::MAX, "17976931348623157", 292);
        check(f64::MIN_POSITIVE, "22250738585072014", -324);
        check(5e-324, "5", -324);
        // Not the shortest, and not the nearest.
        check(99_999_999_999_999_000.0, "9999999999999901", 1);
        check(25_062_500_000_000.063, "25062500000000062", -3);
    }

    #[test]
    fn digits_read_back() {
        let mut state = 1_u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = f64::from_bits(state & !(1 << 63));
            if value.is_finite() && value > 0.0 {
                let (digits, exponent) = digits(value);
                let text = format!("{}e{exponent}", String::from_utf8(digits).unwrap());
                assert_eq!(text.parse::<f64>().unwrap(), value, "{text}");
            }
        }
    }
}

/* Mersenne primes by the Lucas-Lehmer test, on big numbers of 32-bit limbs.
 *
 * 2^p - 1 is prime exactly when s(p-2) is 0, where s(0) = 4 and s(i+1) = s(i)^2 - 2 modulo 2^p - 1. The exponents found
 * are checked against the known list, and the arithmetic on its own against powers of ten.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LIMBS 40 /* room for the square of a 608-bit number */

typedef struct {
    uint32_t limb[LIMBS]; /* least significant first; unused limbs are 0 */
} big;

static big from_small(uint32_t value)
{
    big result = {{0}};

    result.limb[0] = value;
    return result;
}

static int compare(const big *a, const big *b)
{
    for (int i = LIMBS - 1; i >= 0; i--) {
        if (a->limb[i] != b->limb[i])
            return a->limb[i] < b->limb[i] ? -1 : 1;
    }
    return 0;
}

static void add(big *to, const big *value)
{
    uint64_t carry = 0;

    for (int i = 0; i < LIMBS; i++) {
        carry += (uint64_t)to->limb[i] + value->limb[i];
        to->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

/* `value` must not be larger than `from`. */
static void subtract(big *from, const big *value)
{
    uint32_t borrow = 0;

    for (int i = 0; i < LIMBS; i++) {
        uint64_t taken = (uint64_t)value->limb[i] + borrow;
        borrow = from->limb[i] < taken;
        from->limb[i] = (uint32_t)(from->limb[i] - taken);
    }
}

static int used_limbs(const big *value)
{
    int used = LIMBS;

    while (used > 0 && value->limb[used - 1] == 0)
        used--;
    return used;
}

/* Limbs beyond the last are lost: the caller keeps the factors small enough. */
static big multiply(const big *a, const big *b)
{
    big product = {{0}};
    int a_used = used_limbs(a), b_used = used_limbs(b);

    for (int i = 0; i < a_used; i++) {
        uint64_t carry = 0;
        for (int j = 0; j <= b_used && i + j < LIMBS; j++) {
            carry += product.limb[i + j] + (uint64_t)a->limb[i] * b->limb[j];
            product.limb[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    return product;
}

static big shift_right(const big *value, int bits)
{
    big result = {{0}};
    int limbs = bits / 32, rest = bits % 32;

    for (int i = 0; i + limbs < LIMBS; i++) {
        uint64_t pair = value->limb[i + limbs];
        if (i + limbs + 1 < LIMBS)
            pair |= (uint64_t)value->limb[i + limbs + 1] << 32;
        result.limb[i] = (uint32_t)(pair >> rest);
    }
    return result;
}

static big low_bits(const big *value, int bits)
{
    big result = {{0}};

    memcpy(result.limb, value->limb, (size_t)(bits / 32 + 1) * sizeof(uint32_t));
    result.limb[bits / 32] &= ((uint32_t)1 << bits % 32) - 1;
    return result;
}

static big mersenne_number(int exponent)
{
    big ones;

    memset(&ones, 0xff, sizeof ones);
    return low_bits(&ones, exponent);
}

/* 2^p is 1 modulo 2^p - 1, so that the high bits are added to the low ones. */
static big reduce(big value, int exponent, const big *modulus)
{
    while (compare(&value, modulus) > 0) {
        big high = shift_right(&value, exponent);
        value = low_bits(&value, exponent);
        add(&value, &high);
    }
    return compare(&value, modulus) == 0 ? from_small(0) : value;
}

static int is_mersenne_prime(int exponent)
{
    const big modulus = mersenne_number(exponent), two = from_small(2), zero = from_small(0);
    big s = from_small(4);

    s = reduce(s, exponent, &modulus);
    for (int i = 0; i < exponent - 2; i++) {
        s = multiply(&s, &s);
        if (compare(&s, &two) < 0)
            add(&s, &modulus);
        subtract(&s, &two);
        s = reduce(s, exponent, &modulus);
    }
    return compare(&s, &zero) == 0;
}

/* 10^40 the long way round: 10^39 * 10, then (10^20)^2, both less 1 plus 1. */
static int check_arithmetic(void)
{
    const big ten = from_small(10), one = from_small(1);
    big slow = one, half, fast;

    for (int i = 0; i < 40; i++) {
        slow = multiply(&slow, &ten);
        if (i == 19)
            half = slow;
    }
    fast = multiply(&half, &half);
    subtract(&fast, &one);
    if (compare(&fast, &slow) >= 0)
        return 0;
    add(&fast, &one);
    return compare(&fast, &slow) == 0;
}

static int is_prime(int number)
{
    for (int divisor = 2; divisor * divisor <= number; divisor++) {
        if (number % divisor == 0)
            return 0;
    }
    return number > 1;
}

int main(void)
{
    static const int known[] = {3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127};
    const int count = (int)(sizeof known / sizeof known[0]);
    int found = 0;

    if (!check_arithmetic()) {
        puts("mersenne: the arithmetic is wrong");
        return 1;
    }
    for (int exponent = 3; exponent <= 200; exponent++) {
        if (!is_prime(exponent) || !is_mersenne_prime(exponent))
            continue;
        if (found == count || known[found++] != exponent) {
            printf("mersenne: 2^%d - 1 is not prime\n", exponent);
            return 1;
        }
    }
    if (found != count || !is_mersenne_prime(521) || is_mersenne_prime(523)) {
        puts("mersenne: a prime was missed");
        return 1;
    }
    printf("mersenne: %d primes, the largest is 2^521 - 1\n", count + 1);
    return 0;
}

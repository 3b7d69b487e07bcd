/* SHA-256 (FIPS 180-4), checked against the standard's own test vectors.
 *
 * The round constants are derived, not listed: they are the first 32 bits of the fractional parts of the cube roots of
 * the first 64 primes, and the initial state is the same of the square roots of the first 8. A wrong bit fails a vector.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 64u
#define ROUNDS 64u

typedef struct {
    uint32_t state[8];
    uint64_t length; /* bytes taken so far */
    uint8_t buffer[BLOCK];
} sha256;

static uint32_t round_constants[ROUNDS];
static uint32_t initial_state[8];

static uint32_t fraction_bits(double root)
{
    return (uint32_t)((root - floor(root)) * 4294967296.0);
}

static void derive_constants(void)
{
    unsigned found = 0;

    for (unsigned candidate = 2; found < ROUNDS; candidate++) {
        int prime = 1;
        for (unsigned divisor = 2; divisor * divisor <= candidate; divisor++) {
            if (candidate % divisor == 0)
                prime = 0;
        }
        if (!prime)
            continue;
        if (found < 8)
            initial_state[found] = fraction_bits(sqrt(candidate));
        round_constants[found++] = fraction_bits(cbrt(candidate));
    }
}

static uint32_t rotate(uint32_t word, unsigned bits)
{
    return (word >> bits) | (word << (32 - bits));
}

static void expand(uint32_t schedule[ROUNDS], const uint8_t block[BLOCK])
{
    for (unsigned i = 0; i < 16; i++) {
        schedule[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
                      | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (unsigned i = 16; i < ROUNDS; i++) {
        uint32_t early = schedule[i - 15], late = schedule[i - 2];
        uint32_t small0 = rotate(early, 7) ^ rotate(early, 18) ^ (early >> 3);
        uint32_t small1 = rotate(late, 17) ^ rotate(late, 19) ^ (late >> 10);
        schedule[i] = schedule[i - 16] + small0 + schedule[i - 7] + small1;
    }
}

static void absorb(uint32_t state[8], const uint8_t block[BLOCK])
{
    uint32_t schedule[ROUNDS], v[8];

    expand(schedule, block);
    memcpy(v, state, sizeof v);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t big1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t first = v[7] + big1 + choice + round_constants[i] + schedule[i];
        uint32_t big0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += first;
        v[0] = first + big0 + majority;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += v[i];
}

static void begin(sha256 *hash)
{
    memcpy(hash->state, initial_state, sizeof hash->state);
    hash->length = 0;
}

static void update(sha256 *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        hash->buffer[hash->length++ % BLOCK] = bytes[i];
        if (hash->length % BLOCK == 0)
            absorb(hash->state, hash->buffer);
    }
}

static void finish(sha256 *hash, char hex[65])
{
    static const uint8_t one_bit = 0x80, zero = 0;
    uint64_t bits = hash->length * 8;
    uint8_t tail[8];

    update(hash, &one_bit, 1);
    while (hash->length % BLOCK != BLOCK - sizeof tail)
        update(hash, &zero, 1);
    for (unsigned i = 0; i < 8; i++)
        tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    update(hash, tail, sizeof tail);
    for (unsigned i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", (unsigned)hash->state[i]);
}

static int agrees(const char *message, unsigned repeat, const char *expected)
{
    sha256 hash;
    char hex[65];

    begin(&hash);
    for (unsigned i = 0; i < repeat; i++)
        update(&hash, message, strlen(message));
    finish(&hash, hex);
    return strcmp(hex, expected) == 0;
}

int main(void)
{
    static const struct {
        const char *message;
        unsigned repeat;
        const char *digest;
    } vectors[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
         "mnopqrstnopqrstu",
         1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
        {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    unsigned count = sizeof vectors / sizeof vectors[0];

    derive_constants();
    for (unsigned i = 0; i < count; i++) {
        if (!agrees(vectors[i].message, vectors[i].repeat, vectors[i].digest)) {
            printf("sha256: vector %u differs\n", i);
            return 1;
        }
    }
    printf("sha256: %u vectors agree\n", count);
    return 0;
}

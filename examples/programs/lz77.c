/* An LZ77-style compressor and its decompressor; every input must survive the round trip.
 *
 * The stream is a row of groups: one control byte says, bit by bit, whether each of the next eight items is a literal
 * byte or a match of 4 to 259 bytes, at most 65535 back (two bytes of distance, one of length).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINIMUM_MATCH 4u
#define MAXIMUM_MATCH 259u
#define WINDOW 65535u
#define HASH_SIZE 4096u

typedef struct {
    uint8_t *bytes;
    size_t size, control; /* control: where the open group's control byte is */
    unsigned items;       /* items of the open group */
} writer;

static void begin_item(writer *out, int is_match)
{
    if (out->items == 8) {
        out->items = 0;
        out->control = out->size;
        out->bytes[out->size++] = 0;
    }
    if (is_match)
        out->bytes[out->control] |= (uint8_t)(1u << out->items);
    out->items++;
}

static void put_literal(writer *out, uint8_t byte)
{
    begin_item(out, 0);
    out->bytes[out->size++] = byte;
}

static void put_match(writer *out, size_t distance, size_t length)
{
    begin_item(out, 1);
    out->bytes[out->size++] = (uint8_t)(distance >> 8);
    out->bytes[out->size++] = (uint8_t)distance;
    out->bytes[out->size++] = (uint8_t)(length - MINIMUM_MATCH);
}

static uint32_t hash_of(const uint8_t *at)
{
    uint32_t word = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;

    return (word * 2654435761u) >> 20;
}

static size_t match_length(const uint8_t *a, const uint8_t *b, size_t limit)
{
    size_t length = 0;

    while (length < limit && a[length] == b[length])
        length++;
    return length;
}

/* `out` must have room for the worst case: every byte a literal, and one control byte for eight of them. */
static size_t compress_bytes(const uint8_t *data, size_t size, uint8_t *out)
{
    writer writing = {out, 0, 0, 8};
    size_t latest[HASH_SIZE]; /* where each hash was seen last, plus one */
    size_t at = 0;

    memset(latest, 0, sizeof latest);
    while (at < size) {
        size_t length = 0, candidate = 0;

        if (size - at >= MINIMUM_MATCH) {
            uint32_t hash = hash_of(data + at);
            candidate = latest[hash];
            latest[hash] = at + 1;
            if (candidate != 0 && at - (candidate - 1) <= WINDOW) {
                size_t limit = size - at < MAXIMUM_MATCH ? size - at : MAXIMUM_MATCH;
                length = match_length(data + candidate - 1, data + at, limit);
            }
        }
        if (length >= MINIMUM_MATCH) {
            put_match(&writing, at - (candidate - 1), length);
            at += length;
        } else {
            put_literal(&writing, data[at++]);
        }
    }
    return writing.size;
}

/* Returns the size of the result, or SIZE_MAX when the stream is damaged or the result would not fit. */
static size_t decompress_bytes(const uint8_t *data, size_t size, uint8_t *out, size_t room)
{
    size_t at = 0, made = 0;

    while (at < size) {
        uint8_t control = data[at++];
        for (unsigned item = 0; item < 8 && at < size; item++) {
            size_t distance = 0, length = 1;
            if (!(control >> item & 1)) {
                if (made == room)
                    return SIZE_MAX;
                out[made++] = data[at++];
                continue;
            }
            if (size - at < 3)
                return SIZE_MAX;
            distance = (size_t)data[at] << 8 | data[at + 1];
            length = data[at + 2] + MINIMUM_MATCH;
            at += 3;
            if (distance == 0 || distance > made || length > room - made)
                return SIZE_MAX;
            for (; length > 0; length--, made++) /* byte by byte: a match may overlap its own end */
                out[made] = out[made - distance];
        }
    }
    return made;
}

static size_t round_trip(const uint8_t *data, size_t size)
{
    uint8_t *packed = malloc(size + size / 8 + 2), *unpacked = malloc(size + 1);
    size_t packed_size = SIZE_MAX;

    if (packed != NULL && unpacked != NULL) {
        packed_size = compress_bytes(data, size, packed);
        if (decompress_bytes(packed, packed_size, unpacked, size) != size || memcmp(data, unpacked, size) != 0)
            packed_size = SIZE_MAX;
    }
    free(packed);
    free(unpacked);
    return packed_size;
}

static size_t check_noise(size_t size)
{
    uint8_t *noise = malloc(size + 1);
    uint32_t state = 88172645u;
    size_t packed = SIZE_MAX;

    if (noise != NULL) {
        for (size_t i = 0; i < size; i++) {
            state = state * 1664525u + 1013904223u;
            noise[i] = (uint8_t)(state >> 24);
        }
        packed = round_trip(noise, size);
    }
    free(noise);
    return packed;
}

int main(void)
{
    static char text[120000];
    static const uint8_t damaged[] = {0x01, 0x00, 0x09, 0x00}; /* a match that points before the beginning */
    uint8_t scratch[64];
    size_t size = 0, packed;

    for (int line = 0; size + 64 < sizeof text; line++)
        size += (size_t)sprintf(text + size, "line %d: the quick brown fox jumps over %d lazy dogs\n", line, line % 7);
    packed = round_trip((const uint8_t *)text, size);
    if (packed == SIZE_MAX || packed * 3 > size) {
        puts("lz77: the text did not survive, or hardly shrank");
        return 1;
    }
    memset(text, 'z', sizeof text); /* a run: matches overlap themselves */
    for (size_t length = 0; length <= 600; length += 7) {
        if (round_trip((const uint8_t *)text, length) == SIZE_MAX || check_noise(length * 11) == SIZE_MAX) {
            printf("lz77: an input of length %zu did not survive\n", length);
            return 1;
        }
    }
    if (decompress_bytes(damaged, sizeof damaged, scratch, sizeof scratch) != SIZE_MAX) {
        puts("lz77: a damaged stream was accepted");
        return 1;
    }
    printf("lz77: %zu bytes became %zu and came back\n", size, packed);
    return 0;
}

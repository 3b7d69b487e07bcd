/* A hash table with open addressing, linear probing and deletion without tombstones.
 *
 * After a deletion the entries behind the hole move up, so that a look-up may always stop at the first empty slot. It
 * is checked against a plain array through many thousand random operations.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_ROOM 16
#define NAMES 600

typedef struct {
    char key[KEY_ROOM]; /* empty: the slot is free */
    int value;
} slot;

typedef struct {
    slot *slots;
    size_t capacity; /* a power of two */
    size_t used;
} table;

static uint32_t fnv1a(const char *text)
{
    uint32_t hash = 2166136261u;

    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    return hash;
}

static slot *make_slots(size_t capacity)
{
    slot *made = calloc(capacity, sizeof(slot));

    if (made == NULL) {
        puts("hash_table: out of memory");
        exit(2);
    }
    return made;
}

static size_t home(const table *in, const char *key)
{
    return fnv1a(key) & (in->capacity - 1);
}

/* The slot that holds the key, or the free one where it belongs. */
static slot *find(const table *in, const char *key)
{
    size_t at = home(in, key);

    while (in->slots[at].key[0] != '\0' && strcmp(in->slots[at].key, key) != 0)
        at = (at + 1) & (in->capacity - 1);
    return &in->slots[at];
}

static void put(table *in, const char *key, int value);

static void grow(table *in)
{
    table larger = {make_slots(in->capacity * 2), in->capacity * 2, 0};

    for (size_t i = 0; i < in->capacity; i++) {
        if (in->slots[i].key[0] != '\0')
            put(&larger, in->slots[i].key, in->slots[i].value);
    }
    free(in->slots);
    *in = larger;
}

static void put(table *in, const char *key, int value)
{
    slot *target = find(in, key);

    if (target->key[0] == '\0') {
        if ((in->used + 1) * 4 > in->capacity * 3) {
            grow(in);
            target = find(in, key);
        }
        strcpy(target->key, key);
        in->used++;
    }
    target->value = value;
}

static const int *get(const table *in, const char *key)
{
    const slot *found = find(in, key);

    return found->key[0] == '\0' ? NULL : &found->value;
}

static int delete_key(table *in, const char *key)
{
    slot *found = find(in, key);
    size_t mask = in->capacity - 1, hole, at;

    if (found->key[0] == '\0')
        return 0;
    hole = (size_t)(found - in->slots);
    for (at = (hole + 1) & mask; in->slots[at].key[0] != '\0'; at = (at + 1) & mask) {
        /* An entry may fill the hole when its home is not behind it, counted from the hole. */
        size_t distance = (at - home(in, in->slots[at].key)) & mask;
        if (distance >= ((at - hole) & mask)) {
            in->slots[hole] = in->slots[at];
            hole = at;
        }
    }
    in->slots[hole].key[0] = '\0';
    in->used--;
    return 1;
}

static uint32_t next_random(void)
{
    static uint32_t state = 2463534242u;

    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* The model: model[i] is the value of the i-th name, or -1. */
static int agrees(const table *with, const int model[NAMES])
{
    char name[KEY_ROOM];
    size_t live = 0;

    for (int i = 0; i < NAMES; i++) {
        const int *value;
        snprintf(name, sizeof name, "name%d", i);
        value = get(with, name);
        live += model[i] >= 0;
        if (model[i] < 0 ? value != NULL : value == NULL || *value != model[i])
            return 0;
    }
    return live == with->used;
}

int main(void)
{
    const int operations = 30000;
    table names = {make_slots(8), 8, 0};
    int model[NAMES];
    int status = 0;

    for (int i = 0; i < NAMES; i++)
        model[i] = -1;
    for (int step = 0; step < operations && status == 0; step++) {
        unsigned index = next_random() % NAMES;
        char name[KEY_ROOM];

        snprintf(name, sizeof name, "name%u", index);
        if (next_random() % 5 < 3) {
            put(&names, name, step);
            model[index] = step;
        } else {
            status |= delete_key(&names, name) != (model[index] >= 0);
            model[index] = -1;
        }
        if (step % 1000 == 0)
            status |= !agrees(&names, model);
    }
    status |= !agrees(&names, model);
    printf("hash_table: %s after %d operations, %zu entries\n", status ? "wrong" : "right", operations, names.used);
    free(names.slots);
    return status;
}

/* The Mandelbrot set in fixed-point arithmetic, checked by its symmetry, by known points and by a checksum.
 *
 * Whole numbers make the picture the same on every machine and at every optimization level: a compiler may fuse a
 * multiplication and an addition of doubles, and one pixel at the edge of the set would change.
 */
#include <stdint.h>
#include <stdio.h>

#define FRACTION_BITS 28
#define ONE ((int64_t)1 << FRACTION_BITS)
#define WIDTH 78
#define HEIGHT 45 /* odd: the middle row is the real axis */
#define LIMIT 200

typedef struct {
    int64_t re, im;
} complex_fixed;

/* Division rounds towards zero, a shift of a negative number would not: the set must stay symmetric. */
static int64_t multiply(int64_t a, int64_t b)
{
    return a * b / ONE;
}

/* How many steps the point takes to leave the circle of radius 2; LIMIT when it does not. */
static int escape_time(complex_fixed c)
{
    complex_fixed z = {0, 0};
    int step;

    for (step = 0; step < LIMIT; step++) {
        int64_t re2 = multiply(z.re, z.re), im2 = multiply(z.im, z.im);
        if (re2 + im2 > 4 * ONE)
            break;
        z.im = 2 * multiply(z.re, z.im) + c.im;
        z.re = re2 - im2 + c.re;
    }
    return step;
}

static complex_fixed pixel(int x, int y)
{
    complex_fixed c;

    c.re = -2 * ONE + 3 * ONE * x / (WIDTH - 1);
    c.im = (2 * y - (HEIGHT - 1)) * ONE * 5 / (4 * (HEIGHT - 1));
    return c;
}

static int escapes(int64_t re_hundredths, int64_t im_hundredths)
{
    complex_fixed c = {re_hundredths * ONE / 100, im_hundredths * ONE / 100};

    return escape_time(c) < LIMIT;
}

static int check_known_points(void)
{
    /* In the set: the origin, the centre of period 2, the cusp of the cardioid, and i, whose orbit is a cycle. */
    static const int inside[][2] = {{0, 0}, {-100, 0}, {25, 0}, {0, 100}};
    static const int outside[][2] = {{50, 0}, {100, 100}, {-210, 0}, {0, 120}};

    for (int i = 0; i < 4; i++) {
        if (escapes(inside[i][0], inside[i][1]))
            return 0;
        if (!escapes(outside[i][0], outside[i][1]))
            return 0;
    }
    return 1;
}

static int check_symmetry(int picture[HEIGHT][WIDTH])
{
    for (int y = 0; y < HEIGHT / 2; y++) {
        for (int x = 0; x < WIDTH; x++) {
            if (picture[y][x] != picture[HEIGHT - 1 - y][x])
                return 0;
        }
    }
    return 1;
}

/* Fletcher's checksum: the order of the pixels counts, not only their sum. */
static uint32_t checksum(int picture[HEIGHT][WIDTH])
{
    uint32_t first = 0, second = 0;

    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            first = (first + (uint32_t)picture[y][x]) % 65535;
            second = (second + first) % 65535;
        }
    }
    return second << 16 | first;
}

int main(void)
{
    static int picture[HEIGHT][WIDTH];
    const uint32_t expected = 0xbfa45fbbu;
    int inside = 0;

    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            picture[y][x] = escape_time(pixel(x, y));
            inside += picture[y][x] == LIMIT;
        }
    }
    if (!check_known_points() || !check_symmetry(picture) || checksum(picture) != expected) {
        printf("mandelbrot: wrong picture, checksum %08x\n", (unsigned)checksum(picture));
        return 1;
    }
    printf("mandelbrot: %d of %d pixels are in the set\n", inside, WIDTH * HEIGHT);
    return 0;
}

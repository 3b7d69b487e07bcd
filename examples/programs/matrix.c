/* A blocked matrix product, checked against the plain triple loop.
 *
 * All elements are small whole numbers, so that every sum is exact in a double and the two products must agree to the
 * bit, whatever the order of additions and whatever the optimizer makes of the loops.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 16

typedef struct {
    int rows, columns;
    double *cells;
} matrix;

static uint32_t random_state = 12345;

static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static matrix make(int rows, int columns)
{
    matrix made = {rows, columns, calloc((size_t)rows * (size_t)columns, sizeof(double))};

    if (made.cells == NULL) {
        puts("matrix: out of memory");
        exit(2);
    }
    return made;
}

static matrix make_random(int rows, int columns)
{
    matrix made = make(rows, columns);

    for (int i = 0; i < rows * columns; i++)
        made.cells[i] = (double)(next_random() % 19) - 9.0;
    return made;
}

static double *row(const matrix *of, int index)
{
    return of->cells + (size_t)index * (size_t)of->columns;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static matrix multiply_plain(const matrix *a, const matrix *b)
{
    matrix product = make(a->rows, b->columns);

    for (int i = 0; i < a->rows; i++) {
        for (int j = 0; j < b->columns; j++) {
            double sum = 0.0;
            for (int k = 0; k < a->columns; k++)
                sum += row(a, i)[k] * row(b, k)[j];
            row(&product, i)[j] = sum;
        }
    }
    return product;
}

/* One block of the product: rows from i, columns from j, the slice of the inner dimension from k. */
static void multiply_block(matrix *product, const matrix *a, const matrix *b, int i, int j, int k)
{
    int last_row = smaller(i + BLOCK, a->rows);
    int last_column = smaller(j + BLOCK, b->columns);
    int last_inner = smaller(k + BLOCK, a->columns);

    for (int y = i; y < last_row; y++) {
        double *target = row(product, y);
        for (int inner = k; inner < last_inner; inner++) {
            const double factor = row(a, y)[inner];
            const double *source = row(b, inner);
            for (int x = j; x < last_column; x++)
                target[x] += factor * source[x];
        }
    }
}

static matrix multiply_blocked(const matrix *a, const matrix *b)
{
    matrix product = make(a->rows, b->columns);

    for (int i = 0; i < a->rows; i += BLOCK) {
        for (int k = 0; k < a->columns; k += BLOCK) {
            for (int j = 0; j < b->columns; j += BLOCK)
                multiply_block(&product, a, b, i, j, k);
        }
    }
    return product;
}

static int same(const matrix *a, const matrix *b)
{
    if (a->rows != b->rows || a->columns != b->columns)
        return 0;
    for (int i = 0; i < a->rows * a->columns; i++) {
        if (a->cells[i] < b->cells[i] || a->cells[i] > b->cells[i])
            return 0;
    }
    return 1;
}

/* Sizes that are multiples of the block, that are not, and that are smaller than one block. */
static int check(int rows, int inner, int columns)
{
    matrix a = make_random(rows, inner), b = make_random(inner, columns);
    matrix plain = multiply_plain(&a, &b), blocked = multiply_blocked(&a, &b);
    int agree = same(&plain, &blocked);

    free(a.cells);
    free(b.cells);
    free(plain.cells);
    free(blocked.cells);
    return agree;
}

int main(void)
{
    static const int sizes[][3] = {{1, 1, 1}, {5, 3, 7}, {16, 16, 16}, {17, 33, 31}, {64, 96, 48}, {90, 77, 101}};
    int count = (int)(sizeof sizes / sizeof sizes[0]);

    for (int i = 0; i < count; i++) {
        if (!check(sizes[i][0], sizes[i][1], sizes[i][2])) {
            printf("matrix: the products of size %d differ\n", i);
            return 1;
        }
    }
    printf("matrix: %d blocked products agree with the plain ones\n", count);
    return 0;
}

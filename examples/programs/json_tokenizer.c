/* A JSON tokenizer (RFC 8259) that allocates nothing: tokens are slices of the text.
 *
 * It is checked on a document whose tokens are listed by hand, on texts that are not JSON, and on a document of many
 * tokens generated in memory.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { T_END, T_PUNCTUATION, T_STRING, T_NUMBER, T_WORD, T_ERROR } kind;

typedef struct {
    kind kind;
    const char *start;
    size_t length;
} token;

static const char *skip_digits(const char *at)
{
    while (isdigit((unsigned char)*at))
        at++;
    return at;
}

/* Each scanner returns the first character after the token, or NULL where the text is not JSON. */
static const char *scan_number(const char *at)
{
    if (*at == '-')
        at++;
    if (!isdigit((unsigned char)*at))
        return NULL;
    at = *at == '0' ? at + 1 : skip_digits(at);
    if (isdigit((unsigned char)*at))
        return NULL; /* 01 is not a number */
    if (*at == '.') {
        if (!isdigit((unsigned char)*++at))
            return NULL;
        at = skip_digits(at);
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-')
            at++;
        if (!isdigit((unsigned char)*at))
            return NULL;
        at = skip_digits(at);
    }
    return at;
}

static const char *scan_escape(const char *at)
{
    if (*at != 'u')
        return *at != '\0' && strchr("\"\\/bfnrt", *at) ? at + 1 : NULL;
    for (int i = 1; i <= 4; i++) {
        if (!isxdigit((unsigned char)at[i]))
            return NULL;
    }
    return at + 5;
}

static const char *scan_string(const char *at)
{
    for (at++; *at != '"';) {
        if ((unsigned char)*at < 0x20)
            return NULL; /* control characters, and the end of the text */
        if (*at == '\\') {
            at = scan_escape(at + 1);
            if (at == NULL)
                return NULL;
        } else {
            at++;
        }
    }
    return at + 1;
}

static const char *scan_word(const char *at)
{
    static const char *const words[] = {"true", "false", "null"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t length = strlen(words[i]);
        if (strncmp(at, words[i], length) == 0 && !isalnum((unsigned char)at[length]))
            return at + length;
    }
    return NULL;
}

static token next_token(const char **cursor)
{
    const char *start = *cursor + strspn(*cursor, " \t\r\n");
    const char *end;
    token result = {T_END, start, 0};

    if (*start == '\0')
        return result;
    if (strchr("{}[]:,", *start)) {
        result.kind = T_PUNCTUATION;
        end = start + 1;
    } else if (*start == '"') {
        result.kind = T_STRING;
        end = scan_string(start);
    } else if (*start == '-' || isdigit((unsigned char)*start)) {
        result.kind = T_NUMBER;
        end = scan_number(start);
    } else {
        result.kind = T_WORD;
        end = scan_word(start);
    }
    if (end == NULL) {
        result.kind = T_ERROR;
        return result;
    }
    result.length = (size_t)(end - start);
    *cursor = end;
    return result;
}

/* The number of tokens, or -1 when the text does not tokenize. */
static long count_tokens(const char *text)
{
    long count = 0;

    for (;;) {
        token found = next_token(&text);
        if (found.kind == T_END)
            return count;
        if (found.kind == T_ERROR)
            return -1;
        count++;
    }
}

static int check_listed_tokens(void)
{
    const char *text = " {\"name\\u00e9\": [1, -2.5e+3, \"a\\\"b\"], \"on\":true ,\"off\": null}\n";
    static const char *const expected[] = {
        "{", "\"name\\u00e9\"", ":", "[", "1", ",", "-2.5e+3", ",", "\"a\\\"b\"", "]",
        ",", "\"on\"", ":", "true", ",", "\"off\"", ":", "null", "}",
    };

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        token found = next_token(&text);
        if (found.length != strlen(expected[i]) || memcmp(found.start, expected[i], found.length) != 0)
            return 0;
    }
    return next_token(&text).kind == T_END;
}

static int check_refusals(void)
{
    static const char *const broken[] = {"01", "-", "1.", "2e", "\"open", "\"\\x\"", "\"\\u12g4\"", "nul", "True", "'a'", "\"\t\""};

    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        if (count_tokens(broken[i]) != -1)
            return 0;
    }
    return 1;
}

static long check_long_document(void)
{
    const int items = 5000;
    const size_t room = (size_t)items * 48 + 3;
    char *text = malloc(room), *end = text;
    long count;

    if (text == NULL)
        return 0;
    *end++ = '[';
    for (int i = 0; i < items; i++) {
        int written = sprintf(end, "%s{\"id\": %d, \"x\": %d.%d}", i ? "," : "", i, i * 7, i % 10);
        end += written;
    }
    strcpy(end, "]");
    count = count_tokens(text);
    free(text);
    /* Nine tokens an object, a comma between two, two brackets. */
    return count == 9L * items + items - 1 + 2 ? count : 0;
}

int main(void)
{
    long tokens = check_long_document();

    if (!check_listed_tokens() || !check_refusals() || tokens == 0) {
        puts("json_tokenizer: a check failed");
        return 1;
    }
    printf("json_tokenizer: %ld tokens in the long document\n", tokens);
    return 0;
}

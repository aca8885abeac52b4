/* SPDX-License-Identifier: MIT */
/*
 * tsv.h - the text format that all tools share: one entry a line, key TAB value LF.
 *
 * In a key or value these bytes are escaped: tab \t, line feed \n, carriage return \r,
 * backslash \\, and any byte at all may be written \xHH with two hexadecimal digits. All other
 * bytes stand for themselves. So every line has exactly one tab, a raw carriage return is an
 * error, and line number and entry number are the same. The last line may lack its line feed.
 * Empty keys and empty values are entries. The writer escapes the other control bytes as \xHH.
 */
#ifndef TOOLS_TSV_H
#define TOOLS_TSV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum tsv_error { TSV_OK = 0, TSV_NO_TAB, TSV_SECOND_TAB, TSV_RAW_CR, TSV_BAD_ESCAPE, TSV_BAD_HEX };

/* One entry; both parts lie in the line it was parsed from. */
struct tsv_entry {
	char *key;
	size_t key_len;
	char *value;
	size_t value_len;
};

/* tsv_reason - What is wrong, as the end of a sentence "line 7: ...". Static. */
const char *tsv_reason(enum tsv_error error);

/* tsv_lines - Count the lines in @len bytes, a last one without line feed included. */
uint64_t tsv_lines(const char *text, size_t len);

/*
 * tsv_parse - Split one line, without its line feed, and unescape both parts in place.
 *
 * On an error the line's bytes are unspecified and @ret is not written.
 */
enum tsv_error tsv_parse(char *line, size_t len, struct tsv_entry *ret);

/* tsv_unescape - Unescape @len bytes in place. @ret_len: the length afterwards, never more. */
enum tsv_error tsv_unescape(char *text, size_t len, size_t *ret_len);

/* tsv_escape - Escape @len bytes of @data into @dst, room for 4 * @len. Returns the length. */
size_t tsv_escape(char *dst, const void *data, size_t len);

/* tsv_write - Write one line. Returns 0, or -1 if the stream failed. */
int tsv_write(FILE *out, const void *key, size_t key_len, const void *value, size_t value_len);

#endif /* TOOLS_TSV_H */

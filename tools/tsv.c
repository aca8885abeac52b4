/* SPDX-License-Identifier: MIT */
/* tsv.c - reader and writer of the tools' text format. See tsv.h for the format. */
#include "posix.h"

#include <string.h>

#include "tsv.h"

const char *tsv_reason(enum tsv_error error)
{
	switch (error) {
	case TSV_OK:
		return "no error";
	case TSV_NO_TAB:
		return "no tab between key and value";
	case TSV_SECOND_TAB:
		return "a second tab (inside a key or value write \\t)";
	case TSV_RAW_CR:
		return "a raw carriage return (write \\r; is this a file with CRLF line ends?)";
	case TSV_BAD_ESCAPE:
		return "bad escape (known are \\t \\n \\r \\\\ \\xHH)";
	case TSV_BAD_HEX:
		return "bad escape (\\x needs two hexadecimal digits)";
	}
	return "unknown error";
}

uint64_t tsv_lines(const char *text, size_t len)
{
	const char *end = text + len;
	uint64_t lines = 0;

	while (text < end) {
		const char *feed = memchr(text, '\n', (size_t)(end - text));

		lines++;
		if (!feed)
			break;
		text = feed + 1;
	}
	return lines;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decode what follows a backslash. @ret_used: characters consumed after it. */
static enum tsv_error unescape_one(const char *at, const char *end, char *ret_byte,
				   size_t *ret_used)
{
	static const char names[] = "tnr\\", bytes[] = "\t\n\r\\";
	const char *name;

	if (at == end || *at == '\0')
		return TSV_BAD_ESCAPE;
	name = strchr(names, *at);
	if (name) {
		*ret_byte = bytes[name - names];
		*ret_used = 1;
		return TSV_OK;
	}
	if (*at != 'x')
		return TSV_BAD_ESCAPE;
	if (end - at < 3 || hex_digit(at[1]) < 0 || hex_digit(at[2]) < 0)
		return TSV_BAD_HEX;
	*ret_byte = (char)(hex_digit(at[1]) * 16 + hex_digit(at[2]));
	*ret_used = 3;
	return TSV_OK;
}

enum tsv_error tsv_unescape(char *text, size_t len, size_t *ret_len)
{
	const char *end = text + len;
	char *from = memchr(text, '\\', len);
	char *to = from;

	if (!from) {
		*ret_len = len;
		return TSV_OK;
	}
	while (from < end) {
		enum tsv_error error;
		size_t used;

		if (*from != '\\') {
			*to++ = *from++;
			continue;
		}
		error = unescape_one(from + 1, end, to, &used);
		if (error)
			return error;
		from += 1 + used;
		to++;
	}
	*ret_len = (size_t)(to - text);
	return TSV_OK;
}

enum tsv_error tsv_parse(char *line, size_t len, struct tsv_entry *ret)
{
	char *tab = memchr(line, '\t', len);
	struct tsv_entry e;
	enum tsv_error error;

	if (!tab)
		return TSV_NO_TAB;
	e.key = line;
	e.key_len = (size_t)(tab - line);
	e.value = tab + 1;
	e.value_len = len - e.key_len - 1;
	if (memchr(e.value, '\t', e.value_len))
		return TSV_SECOND_TAB;
	if (memchr(line, '\r', len))
		return TSV_RAW_CR;
	error = tsv_unescape(e.key, e.key_len, &e.key_len);
	if (!error)
		error = tsv_unescape(e.value, e.value_len, &e.value_len);
	if (!error)
		*ret = e;
	return error;
}

static size_t escape_one(char *dst, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	static const char names[] = "tnr\\", bytes[] = "\t\n\r\\";
	const char *special = c ? strchr(bytes, (char)c) : NULL;

	if (special) {
		dst[0] = '\\';
		dst[1] = names[special - bytes];
		return 2;
	}
	if (c >= 0x20 && c != 0x7f) {
		dst[0] = (char)c;
		return 1;
	}
	dst[0] = '\\';
	dst[1] = 'x';
	dst[2] = digits[c >> 4];
	dst[3] = digits[c & 15];
	return 4;
}

size_t tsv_escape(char *dst, const void *data, size_t len)
{
	const unsigned char *from = data;
	char *to = dst;
	size_t i;

	for (i = 0; i < len; i++)
		to += escape_one(to, from[i]);
	return (size_t)(to - dst);
}

static void write_escaped(FILE *out, const unsigned char *data, size_t len)
{
	char text[4096];

	while (len > 0) {
		size_t part = len < sizeof(text) / 4 ? len : sizeof(text) / 4;

		fwrite(text, 1, tsv_escape(text, data, part), out);
		data += part;
		len -= part;
	}
}

int tsv_write(FILE *out, const void *key, size_t key_len, const void *value, size_t value_len)
{
	write_escaped(out, key, key_len);
	putc('\t', out);
	write_escaped(out, value, value_len);
	putc('\n', out);
	return ferror(out) ? -1 : 0;
}

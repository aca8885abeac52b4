/* SPDX-License-Identifier: MIT */
/*
 * test_hash.c - the hashes give the published values, at every length and alignment.
 *
 * Vectors: SipHash-1-3 from the authors' reference implementation, as kept by Rust's core library
 * (library/coretests/tests/hash/sip.rs); XXH3 from xxHash's self-test (cli/xsum_sanity_check.c);
 * FNV-1a from its authors' test_fnv.c.
 */
#include <stdio.h>

#include "util.h"

#include "hash.h"
#include "hash_wide.h"

/* Key 00 01 .. 0f, message 00 01 .. of the length that is the index. */
static const uint64_t sip13_vectors[64] = {
	UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93), UINT64_C(0x82cb9b024dc7d44d),
	UINT64_C(0x8bf80ab8e7ddf7fb), UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
	UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140), UINT64_C(0x369095118d299a8e),
	UINT64_C(0x25a48eb36c063de4), UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
	UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7), UINT64_C(0x605aa111c0f95d34),
	UINT64_C(0xd320d86d2a519956), UINT64_C(0xcc4fdd1a7d908b66), UINT64_C(0x9cf2689063dbd80c),
	UINT64_C(0x8ffc389cb473e63e), UINT64_C(0xf21f9de58d297d1c), UINT64_C(0xc0dc2f46a6cce040),
	UINT64_C(0xb992abfe2b45f844), UINT64_C(0x7ffe7b9ba320872e), UINT64_C(0x525a0e7fdae6c123),
	UINT64_C(0xf464aeb267349c8c), UINT64_C(0x45cd5928705b0979), UINT64_C(0x3a3e35e3ca9913a5),
	UINT64_C(0xa91dc74e4ade3b35), UINT64_C(0xfb0bed02ef6cd00d), UINT64_C(0x88d93cb44ab1e1f4),
	UINT64_C(0x540f11d643c5e663), UINT64_C(0x2370dd1f8c21d1bc), UINT64_C(0x81157b6c16a7b60d),
	UINT64_C(0x4d54b9e57a8ff9bf), UINT64_C(0x759f12781f2a753e), UINT64_C(0xcea1a3bebf186b91),
	UINT64_C(0x2cf508d3ada26206), UINT64_C(0xb6101c2da3c33057), UINT64_C(0xb3f47496ae3a36a1),
	UINT64_C(0x626b57547b108392), UINT64_C(0xc1d2363299e41531), UINT64_C(0x667cc1923f1ad944),
	UINT64_C(0x65704ffec8138825), UINT64_C(0x24f280d1c28949a6), UINT64_C(0xc2ca1cedfaf8876b),
	UINT64_C(0xc2164bfc9f042196), UINT64_C(0xa16e9c9368b1d623), UINT64_C(0x49fb169c8b5114fd),
	UINT64_C(0x9f3143f8df074c46), UINT64_C(0xc6fdaf2412cc86b3), UINT64_C(0x7eaf49d10a52098f),
	UINT64_C(0x1cf313559d292f9a), UINT64_C(0xc44a30dda2f41f12), UINT64_C(0x36fae98943a71ed0),
	UINT64_C(0x318fb34c73f0bce6), UINT64_C(0xa27abf3670a7e980), UINT64_C(0xb4bcc0db243c6d75),
	UINT64_C(0x23f8d852fdb71513), UINT64_C(0x8f035f4da67d8a08), UINT64_C(0xd89cd0e5b7e8f148),
	UINT64_C(0xf6f4e6bcf7a644ee), UINT64_C(0xaec59ad80f1837f2), UINT64_C(0xc3b2f6154b6694e0),
	UINT64_C(0x9d199062b7bbb3a8),
};

static void count_up(unsigned char *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)i;
}

static void test_siphash13_reference_vectors(void **state)
{
	unsigned char key[16], message[64];

	(void)state;
	count_up(key, sizeof(key));
	count_up(message, sizeof(message));
	for (size_t len = 0; len < 64; len++)
		check_u64(kvs__siphash13(message, len, key), sip13_vectors[len]);
}

static void test_siphash13_at_any_alignment(void **state)
{
	unsigned char key[16], room[64 + 8];

	(void)state;
	count_up(key, sizeof(key));
	for (size_t shift = 0; shift < 8; shift++) {
		count_up(room + shift, 64);
		for (size_t len = 0; len < 64; len++)
			check_u64(kvs__siphash13(room + shift, len, key), sip13_vectors[len]);
	}
}

/* A message in memory of exactly its size: the sanitizers see a read beyond either end. */
static void test_siphash13_stays_inside_its_input(void **state)
{
	unsigned char key[16];

	(void)state;
	count_up(key, sizeof(key));
	for (size_t len = 1; len < 64; len++) {
		unsigned char *message = malloc(len);

		check(message != NULL);
		count_up(message, len);
		check_u64(kvs__siphash13(message, len, key), sip13_vectors[len]);
		free(message);
	}
	check_u64(kvs__siphash13(NULL, 0, key), sip13_vectors[0]);
}

static void test_siphash13_of_long_input_uses_all_bytes(void **state)
{
	enum { LEN = 65535 };
	unsigned char key[16], *message = calloc(LEN, 1);
	uint64_t before;

	(void)state;
	check(message != NULL);
	count_up(key, sizeof(key));
	before = kvs__siphash13(message, LEN, key);
	for (size_t at = 0; at < LEN; at += 251) {
		message[at] = 1;
		check(kvs__siphash13(message, LEN, key) != before);
		message[at] = 0;
	}
	check(kvs__siphash13(message, LEN - 256, key) != kvs__siphash13(message, LEN - 512, key));
	free(message);
}

#define XXH_TEST_SEED UINT64_C(11400714785074694797) /* the self-test's PRIME64 */

static const struct {
	size_t len;
	uint64_t seed;
	uint64_t hash;
} xxh3_vectors[] = {
	{ 0, 0, UINT64_C(0x2d06800538d394c2) },
	{ 0, XXH_TEST_SEED, UINT64_C(0xa8a6b918b2f0364a) },
	{ 1, 0, UINT64_C(0xc44bdff4074eecdb) },
	{ 1, XXH_TEST_SEED, UINT64_C(0x032be332dd766ef8) },
	{ 6, 0, UINT64_C(0x27b56a84cd2d7325) },
	{ 6, XXH_TEST_SEED, UINT64_C(0x84589c116ab59ab9) },
	{ 12, 0, UINT64_C(0xa713daf0dfbb77e7) },
	{ 12, XXH_TEST_SEED, UINT64_C(0xe7303e1b2336de0e) },
	{ 24, 0, UINT64_C(0xa3fe70bf9d3510eb) },
	{ 24, XXH_TEST_SEED, UINT64_C(0x850e80fc35bdd690) },
	{ 48, 0, UINT64_C(0x397da259ecba1f11) },
	{ 48, XXH_TEST_SEED, UINT64_C(0xadc2cbaa44acc616) },
	{ 80, 0, UINT64_C(0xbcdefbbb2c47c90a) },
	{ 80, XXH_TEST_SEED, UINT64_C(0xc6dd0cb699532e73) },
	{ 195, 0, UINT64_C(0xcd94217ee362ec3a) },
	{ 195, XXH_TEST_SEED, UINT64_C(0xba68003d370cb3d9) },
	{ 403, 0, UINT64_C(0xcdeb804d65c6dea4) },
	{ 403, XXH_TEST_SEED, UINT64_C(0x6259f6ecfd6443fd) },
	{ 512, 0, UINT64_C(0x617e49599013cb6b) },
	{ 512, XXH_TEST_SEED, UINT64_C(0x3ce457de14c27708) },
	{ 2048, 0, UINT64_C(0xdd59e2c3a5f038e0) },
	{ 2048, XXH_TEST_SEED, UINT64_C(0x66f81670669ababc) },
	{ 2240, 0, UINT64_C(0x6e73a90539cf2948) },
	{ 2240, XXH_TEST_SEED, UINT64_C(0x757ba8487d1b5247) },
	{ 2367, 0, UINT64_C(0xcb37aeb9e5d361ed) },
	{ 2367, XXH_TEST_SEED, UINT64_C(0xd2db3415b942b42a) },
};

/* The self-test's input: the top bytes of 2654435761 times powers of the seed above. */
static void fill_xxh_input(unsigned char *to, size_t len)
{
	uint64_t generator = 2654435761u;

	for (size_t i = 0; i < len; i++) {
		to[i] = (unsigned char)(generator >> 56);
		generator *= XXH_TEST_SEED;
	}
}

static void test_xxh3_published_vectors(void **state)
{
	unsigned char input[2367];

	(void)state;
	fill_xxh_input(input, sizeof(input));
	for (size_t i = 0; i < ARRAY_LEN(xxh3_vectors); i++)
		check_u64(kvs__xxh3(input, xxh3_vectors[i].len, xxh3_vectors[i].seed),
			  xxh3_vectors[i].hash);
}

static const struct {
	const char *text;
	uint64_t hash;
} fnv1a_vectors[] = {
	{ "", UINT64_C(0xcbf29ce484222325) },      { "a", UINT64_C(0xaf63dc4c8601ec8c) },
	{ "d", UINT64_C(0xaf63d94c8601e773) },     { "e", UINT64_C(0xaf63d84c8601e5c0) },
	{ "f", UINT64_C(0xaf63db4c8601ead9) },     { "fo", UINT64_C(0x08985907b541d342) },
	{ "foo", UINT64_C(0xdcb27518fed9d577) },   { "foob", UINT64_C(0xdd120e790c2512af) },
	{ "fooba", UINT64_C(0xcac165afa2fef40a) }, { "foobar", UINT64_C(0x85944171f73967e8) },
};

static void test_fnv1a_published_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fnv1a_vectors); i++)
		check_u64(kvs__fnv1a(fnv1a_vectors[i].text, strlen(fnv1a_vectors[i].text)),
			  fnv1a_vectors[i].hash);
	check_u64(kvs__fnv1a("", 1), UINT64_C(0xaf63bd4c8601b7df)); /* one zero byte */
	check_u64(kvs__fnv1a("a", 2), UINT64_C(0x089be207b544f1e4));
}

/* The inverse of x ^ x >> by. */
static uint64_t unshift(uint64_t x, unsigned int by)
{
	uint64_t y = x;

	for (unsigned int done = by; done < 64; done += by)
		y = x ^ y >> by;
	return y;
}

/* The inverse of an odd number modulo 2^64, by Newton's iteration. */
static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

static uint64_t unmix(uint64_t x)
{
	x = unshift(x, 31) * inverse(UINT64_C(0x94d049bb133111eb));
	x = unshift(x, 27) * inverse(UINT64_C(0xbf58476d1ce4e5b9));
	return unshift(x, 30);
}

static void test_mix64_is_a_bijection(void **state)
{
	struct rng r;

	(void)state;
	rng_init(&r, 0);
	for (int i = 0; i < 100000; i++) {
		uint64_t x = rng_next(&r);

		check_u64(unmix(kvs__mix64(x)), x);
		check_u64(kvs__mix64(unmix(x)), x);
	}
}

/* Each input bit flips about half of the output bits. */
static void test_mix64_avalanche(void **state)
{
	struct rng r;

	(void)state;
	rng_init(&r, 1);
	for (unsigned int bit = 0; bit < 64; bit++) {
		int flipped = 0;

		for (int i = 0; i < 1000; i++) {
			uint64_t x = rng_next(&r), y = x ^ UINT64_C(1) << bit;

			flipped += __builtin_popcountll(kvs__mix64(x) ^ kvs__mix64(y));
		}
		check(flipped > 30000 && flipped < 34000);
	}
}

static uint64_t hash_by_first_byte(const void *key, size_t len, void *ctx)
{
	(void)len;
	return *(const unsigned char *)key + *(const uint64_t *)ctx;
}

static void init_hasher(struct kvs__hasher *h, int32_t kind, const unsigned char *key)
{
	static uint64_t offset = 1000;
	struct kvs_options opts = KVS_OPTIONS_INIT;

	opts.hash = kind;
	opts.hash_key = key;
	opts.hash_fn = hash_by_first_byte;
	opts.hash_ctx = &offset;
	check_ok(kvs__hasher_init(h, &opts));
}

static void test_hash_key_is_what_the_kind_says(void **state)
{
	unsigned char key[16];
	struct kvs__hasher h;

	(void)state;
	count_up(key, sizeof(key));
	init_hasher(&h, KVS_HASH_SIPHASH13, key);
	check_u64(kvs__hash_key(&h, "foobar", 6), kvs__siphash13("foobar", 6, key));
	init_hasher(&h, KVS_HASH_XXH3, key);
	check_u64(kvs__hash_key(&h, "foobar", 6), kvs__mix64(kvs__xxh3("foobar", 6, h.seed)));
	init_hasher(&h, KVS_HASH_FNV1A, NULL);
	check_u64(kvs__hash_key(&h, "foobar", 6), kvs__mix64(UINT64_C(0x85944171f73967e8)));
	init_hasher(&h, KVS_HASH_USER, NULL);
	check_u64(kvs__hash_key(&h, "foobar", 6), kvs__mix64(1000 + 'f'));
}

static void check_random_keys_differ(int32_t kind)
{
	struct kvs__hasher a, b;

	init_hasher(&a, kind, NULL);
	init_hasher(&b, kind, NULL);
	check(memcmp(a.key, b.key, sizeof(a.key)) != 0);
	check(kvs__hash_key(&a, "foobar", 6) != kvs__hash_key(&b, "foobar", 6));
}

static void test_hasher_key_is_random_unless_given(void **state)
{
	unsigned char key[16];
	struct kvs__hasher a, b;

	(void)state;
	count_up(key, sizeof(key));
	check_random_keys_differ(KVS_HASH_SIPHASH13);
	check_random_keys_differ(KVS_HASH_XXH3);
	init_hasher(&a, KVS_HASH_XXH3, key);
	key[15] ^= 1; /* every byte of the key matters */
	init_hasher(&b, KVS_HASH_XXH3, key);
	check(kvs__hash_key(&a, "foobar", 6) != kvs__hash_key(&b, "foobar", 6));
}

KVS_WIDE static uint64_t wide_hash(const void *data, size_t len, const uint64_t sip[4])
{
	return kvs__siphash13_wide(data, len, sip);
}

/* The same values from vector registers, at any alignment; nothing to compare where there are none. */
static void test_siphash13_wide_is_siphash13(void **state)
{
	unsigned char key[16], room[64 + 8];
	uint64_t sip[4];
	unsigned compared = 0;

	(void)state;
	count_up(key, sizeof(key));
	kvs__sip_start(sip, key);
	for (size_t shift = 0; kvs__wide_supported() && shift < 8; shift++) {
		count_up(room + shift, 64);
		for (size_t len = 0; len < 64; len++, compared++)
			check_u64(wide_hash(room + shift, len, sip), sip13_vectors[len]);
	}
	printf("# wide: %s, compared %u\n", kvs__wide_supported() ? "yes" : "no", compared);
	check(compared == (kvs__wide_supported() ? 8 * 64 : 0));
}

KVS_WIDE static void wide_hash4(const struct kvs_slice k[4], const uint64_t sip[4], uint64_t ret[4])
{
	kvs__siphash13_wide4(&k[0], &k[1], &k[2], &k[3], sip, ret);
}

/*
 * Four at once: all lengths of as many whole words beside each other, each message in memory of exactly its size; and
 * refused where the words differ or there is none.
 */
static void test_siphash13_wide4_is_siphash13(void **state)
{
	unsigned char key[16], *message[64];
	unsigned compared = 0, refused = 0;
	uint64_t sip[4], hash[4];

	(void)state;
	count_up(key, sizeof(key));
	kvs__sip_start(sip, key);
	for (size_t len = 1; len < 64; len++) {
		message[len] = malloc(len);
		check(message[len] != NULL);
		count_up(message[len], len);
	}
	for (size_t i = 0; kvs__wide_supported() && i < 64 * 64; i++) {
		size_t a = 1 + i % 63, b = 1 + i / 64 % 63;
		struct kvs_slice k[4] = {
			{ message[a], a }, { message[b], b }, { message[a], a }, { message[b], b }
		};

		if (!kvs__siphash13_wide4_may(&k[0], &k[1], &k[2], &k[3])) {
			check(a < 8 || a / 8 != b / 8);
			refused++;
			continue;
		}
		check(a >= 8 && a / 8 == b / 8);
		wide_hash4(k, sip, hash);
		for (size_t j = 0; j < 4; j++, compared++)
			check_u64(hash[j], sip13_vectors[k[j].len]);
	}
	for (size_t len = 1; len < 64; len++)
		free(message[len]);
	util_note("four at once: compared %u, refused %u", compared, refused);
	check(!kvs__wide_supported() || (compared >= 1000 && refused >= 1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash13_reference_vectors),
		cmocka_unit_test(test_siphash13_at_any_alignment),
		cmocka_unit_test(test_siphash13_stays_inside_its_input),
		cmocka_unit_test(test_siphash13_of_long_input_uses_all_bytes),
		cmocka_unit_test(test_siphash13_wide_is_siphash13),
		cmocka_unit_test(test_siphash13_wide4_is_siphash13),
		cmocka_unit_test(test_xxh3_published_vectors),
		cmocka_unit_test(test_fnv1a_published_vectors),
		cmocka_unit_test(test_mix64_is_a_bijection),
		cmocka_unit_test(test_mix64_avalanche),
		cmocka_unit_test(test_hash_key_is_what_the_kind_says),
		cmocka_unit_test(test_hasher_key_is_random_unless_given),
	};

	return util_main("hash", tests, ARRAY_LEN(tests));
}

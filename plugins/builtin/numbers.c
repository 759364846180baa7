/* Numbers with check digits: payment cards, IBANs, resident identity numbers. */
#include "dates.h"
#include "recognise.h"

/* ---- payment cards ---- */

#define CARD_LEAST 12
#define CARD_MOST 19

typedef struct {
    uint16_t first, last; /* of the first four digits */
    uint32_t lengths;     /* a bit for each */
} Issuer;

#define LENGTH(digits) (1u << (digits))
#define LENGTHS(least, most) ((2u << (most)) - (1u << (least)))

static const Issuer ISSUERS[] = {
    {2200, 2204, LENGTHS(16, 19)},                        /* Mir */
    {2221, 2720, LENGTH(16)},                             /* Mastercard */
    {3000, 3059, LENGTHS(14, 19)},                        /* Diners Club */
    {3095, 3095, LENGTHS(14, 19)},                        /* Diners Club */
    {3400, 3499, LENGTH(15)},                             /* American Express */
    {3528, 3589, LENGTHS(16, 19)},                        /* JCB */
    {3600, 3699, LENGTHS(14, 19)},                        /* Diners Club */
    {3700, 3799, LENGTH(15)},                             /* American Express */
    {3800, 3999, LENGTHS(14, 19)},                        /* Diners Club */
    {4000, 4999, LENGTH(13) | LENGTH(16) | LENGTH(19)},   /* Visa */
    {5018, 5020, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro, Dankort */
    {5038, 5038, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {5060, 5061, LENGTH(16) | LENGTH(18) | LENGTH(19)},   /* Verve */
    {5080, 5089, LENGTH(16)},                             /* RuPay */
    {5100, 5599, LENGTH(16)},                             /* Mastercard */
    {5612, 5612, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {5893, 5893, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {6011, 6011, LENGTHS(16, 19)},                        /* Discover */
    {6200, 6299, LENGTHS(16, 19)},                        /* UnionPay */
    {6304, 6304, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {6390, 6390, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {6440, 6599, LENGTHS(16, 19)},                        /* Discover, RuPay, Verve */
    {6759, 6763, LENGTHS(CARD_LEAST, CARD_MOST)},         /* Maestro */
    {8100, 8299, LENGTHS(16, 19)},                        /* UnionPay, RuPay */
    {9792, 9792, LENGTH(16)},                             /* Troy */
};

static bool has_issuer(const uint8_t *digits, uint32_t count) {
    uint32_t prefix = digits[0] * 1000u + digits[1] * 100u + digits[2] * 10u + digits[3];
    for (uint32_t i = 0; i < sizeof ISSUERS / sizeof *ISSUERS; i++) {
        if (prefix >= ISSUERS[i].first && prefix <= ISSUERS[i].last) return ISSUERS[i].lengths >> count & 1;
    }
    return false;
}

static bool luhn(const uint8_t *digits, uint32_t count) {
    static const uint8_t DOUBLED[] = {0, 2, 4, 6, 8, 1, 3, 5, 7, 9};
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += (count - i) % 2 ? digits[i] : DOUBLED[digits[i]];
    return sum % 10 == 0;
}

/* The digits behind a decimal point are no number of their own. */
static bool in_number(const uint8_t *at, Span text) {
    if (at == text.at) return false;
    return is_digit(at[-1]) || (at[-1] == '.' && at - text.at > 1 && is_digit(at[-2]));
}

static bool is_gap(uint8_t byte) { return byte == ' ' || byte == '-'; }

const uint8_t *recognise_card(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length, *found = NULL;
    uint8_t digits[CARD_MOST], gap = 0;
    uint32_t count = 0;
    if (in_number(at, text)) return NULL;
    for (;;) {
        uint32_t group = count;
        for (; at < end && is_digit(*at); at++) {
            if (count == CARD_MOST) return found;
            digits[count++] = (uint8_t)(*at - '0');
        }
        group = count - group;
        if (count >= CARD_LEAST && !word_after(at, end) && has_issuer(digits, count) && luhn(digits, count)) found = at;
        if (group < 4 || end - at < 2 || !is_gap(*at) || !is_digit(at[1]) || (gap && gap != *at)) return found;
        gap = *at++;
    }
}

/* ---- resident identity numbers of China ---- */

#define ID_LENGTH 18

static bool is_province(const uint8_t *digits) {
    static const uint8_t LAST[] = {0, 5, 3, 7, 6, 4, 5, 1, 3, 1}; /* of those that begin with this digit */
    return digits[0] && digits[1] <= LAST[digits[0]] && (digits[1] || digits[0] == 5);
}

static bool is_birthday(const uint8_t *digits) {
    uint32_t year = digits[0] * 1000u + digits[1] * 100u + digits[2] * 10u + digits[3];
    return year >= 1800 && year < 2100 && is_day(year, digits[4] * 10u + digits[5], digits[6] * 10u + digits[7]);
}

static bool is_id(const uint8_t *digits, uint8_t check) {
    static const uint8_t WEIGHTS[] = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
    uint32_t sum = 0;
    for (uint32_t i = 0; i < ID_LENGTH - 1; i++) sum += WEIGHTS[i] * digits[i];
    return (check == 'x' ? 'X' : check) == "10X98765432"[sum % 11];
}

/* A space or dash may stand before and behind the date. */
const uint8_t *recognise_cn_id(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length;
    uint8_t digits[ID_LENGTH - 1];
    if (in_number(at, text)) return NULL;
    for (uint32_t i = 0; i < ID_LENGTH - 1; i++) {
        if ((i == 6 || i == 14) && at < end && is_gap(*at)) at++;
        if (at == end || !is_digit(*at)) return NULL;
        digits[i] = (uint8_t)(*at++ - '0');
    }
    if (at == end || word_after(at + 1, end)) return NULL;
    return is_province(digits) && is_birthday(digits + 6) && is_id(digits, *at) ? at + 1 : NULL;
}

/* ---- IBANs ---- */

#define IBAN_MOST 34

static uint32_t iban_length(uint8_t first, uint8_t second) {
    static const char LENGTHS_BY_COUNTRY[] =
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27"
        "GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22"
        "MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28"
        "TL23TN24TR26UA29VA22VG24XK20YE30";
    for (const char *at = LENGTHS_BY_COUNTRY; *at; at += 4) {
        if (at[0] == (char)first && at[1] == (char)second) return (uint32_t)((at[2] - '0') * 10 + at[3] - '0');
    }
    return 0;
}

static uint8_t upper(uint8_t byte) { return is_letter(byte) ? byte & 0xDF : byte; }

static bool is_iban(const uint8_t *letters, uint32_t length) {
    uint32_t rest = 0;
    for (uint32_t i = 0; i < length; i++) {
        uint8_t letter = letters[(i + 4) % length];
        rest = is_digit(letter) ? rest * 10 + (letter - '0') : rest * 100 + (letter - 'A' + 10);
        rest %= 97;
    }
    return rest == 1;
}

const uint8_t *recognise_iban(const uint8_t *at, Span text) {
    const uint8_t *end = text.at + text.length;
    uint8_t letters[IBAN_MOST];
    bool in_number = at > text.at && is_digit(at[-1]);
    if (in_number || end - at < 15 || !is_letter(at[0]) || !is_letter(at[1])) return NULL;
    if (!is_digit(at[2]) && !(is_gap(at[2]) && is_digit(at[3]))) return NULL;
    uint32_t length = iban_length(upper(at[0]), upper(at[1]));
    for (uint32_t i = 0; i < length; i++) {
        if (i && end - at > 1 && is_gap(*at)) at++;
        if (at == end || !is_word(*at)) return NULL;
        letters[i] = upper(*at++);
    }
    if (!length || !is_digit(letters[2]) || !is_digit(letters[3]) || word_after(at, end)) return NULL;
    return is_iban(letters, length) ? at : NULL;
}

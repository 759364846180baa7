/* MQTT load from one thread, for brokers on this machine. Nothing is dropped unseen: a publisher has at most
 * `window` messages on their way (QoS 0: counted by what subscribers received; above: by acknowledgements).
 *
 *   load -P PUBLISH_PORT -S SUBSCRIBE_PORT -m pairs|fanout|fanin -p PUBLISHERS -s SUBSCRIBERS -q QOS
 *        [-b PAYLOAD_BYTES] [-n MESSAGES_EACH] [-w WINDOW] [-r RATE_EACH] [-t TIMEOUT_S] [-T TOPIC] [-j PAYLOAD]
 *   load -P PORT -i CONNECTIONS        opens idle connections, prints "ready", waits for end of input
 *   load -P PORT -c CONNECTIONS        connects and leaves so often, one after the other
 *
 * -k: the subscribers' sessions outlive their connections; -o: so they do, and the subscribers leave before the
 * first message: what counts is what publishers had acknowledged (QoS above 0). -K: the publishers' sessions do.
 * -x tls|ws|wss: over TLS (certificates are not checked), WebSocket (path /mqtt), or both.
 * pairs: publisher i to subscriber i % subscribers; fanout: all to one topic that every subscriber takes;
 * fanin: every subscriber takes every topic. The first 8 bytes of a payload are the time of sending; in a text
 * given by -j it takes the place of the 16 characters that begin with the first @. Prints one line of JSON. */
#define _GNU_SOURCE
#include "stream.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 18, BURST = 512, SAMPLES = 1 << 21, STAMP_DIGITS = 16 };
typedef enum { PAIRS, FANOUT, FANIN } Mode;

typedef struct {
    Stream stream;
    int number;
    bool subscriber, ready;
    Buffer in, out;
    uint64_t sent, acknowledged;
} Client;

static struct {
    int publish_port, subscribe_port, publishers, subscribers, qos, idle, connects;
    bool tls, websocket, keep, keep_publishers, offline;
    Mode mode;
    size_t payload, stamp_at;
    uint64_t messages, window;
    double rate, timeout;
    const char *topic, *text;
} want = {.publishers = 1, .subscribers = 1, .payload = 64, .messages = 100000, .window = 200, .timeout = 60, .topic = "bench"};

static Client *clients;
static int client_count, poller;
static uint64_t sent, received;
static uint32_t *latencies;
static size_t latency_count;

void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void flush(Client *client) {
    Buffer *out = &client->out;
    while (out->start < out->end) {
        ssize_t written = stream_write(&client->stream, out->bytes + out->start, out->end - out->start);
        if (written < 0) {
            if (errno == EAGAIN) return;
            fail("write");
        }
        out->start += (size_t)written;
    }
    out->start = out->end = 0;
}

/* ---- packets ---- */

static size_t put_string(uint8_t *to, const char *text) {
    size_t length = strlen(text);
    to[0] = (uint8_t)(length >> 8);
    to[1] = (uint8_t)length;
    memcpy(to + 2, text, length);
    return length + 2;
}

/* The fixed header of a packet whose body of `length` bytes the caller writes where this ends. */
static uint8_t *begin_packet(Client *client, uint8_t first, size_t length) {
    uint8_t *at = reserve(&client->out, length + 5), *begin = at;
    size_t rest = length;
    *at++ = first;
    do {
        *at = rest & 127;
        rest >>= 7;
        if (rest) *at |= 128;
        at++;
    } while (rest);
    client->out.end += (size_t)(at - begin) + length;
    return at;
}

static void send_connect(Client *client) {
    char name[48];
    snprintf(name, sizeof name, "load-%d-%d", getpid(), client->number);
    uint8_t *at = begin_packet(client, 0x10, 10 + 2 + strlen(name));
    at += put_string(at, "MQTT");
    uint8_t clean = (client->subscriber ? want.keep : want.keep_publishers) ? 0 : 2;
    memcpy(at, (uint8_t[]){4, clean, 0, 0}, 4);
    put_string(at + 4, name);
}

static void name_topic(char *topic, size_t size, int number) {
    if (want.mode == FANOUT) number = 0;
    if (want.mode == PAIRS) number %= want.subscribers;
    snprintf(topic, size, "%s/%d", want.topic, number);
}

static void send_subscribe(Client *client) {
    char topic[128];
    if (want.mode == FANIN) snprintf(topic, sizeof topic, "%s/#", want.topic);
    else name_topic(topic, sizeof topic, client->number);
    uint8_t *at = begin_packet(client, 0x82, 2 + 2 + strlen(topic) + 1);
    memcpy(at, (uint8_t[]){0, 1}, 2);
    at += 2 + put_string(at + 2, topic);
    *at = (uint8_t)want.qos;
}

static void send_publish(Client *client) {
    char topic[128];
    name_topic(topic, sizeof topic, client->number - want.subscribers);
    uint8_t *at = begin_packet(client, (uint8_t)(0x30 | want.qos << 1), 2 + strlen(topic) + (want.qos ? 2 : 0) + want.payload);
    at += put_string(at, topic);
    if (want.qos) {
        uint16_t id = (uint16_t)(client->sent % 60000 + 1);
        *at++ = (uint8_t)(id >> 8);
        *at++ = (uint8_t)id;
    }
    uint64_t now = nanoseconds();
    if (want.text) {
        char digits[STAMP_DIGITS + 8];
        snprintf(digits, sizeof digits, "%016llu", (unsigned long long)now);
        memcpy(at, want.text, want.payload);
        memcpy(at + want.stamp_at, digits, STAMP_DIGITS);
    } else {
        memset(at, 'x', want.payload);
        memcpy(at, &now, sizeof now);
    }
    client->sent++;
    sent++;
}

static void send_ack(Client *client, uint8_t first, const uint8_t *id) {
    memcpy(begin_packet(client, first, 2), id, 2);
}

static void on_publish(Client *client, uint8_t first, const uint8_t *body, size_t length) {
    int qos = first >> 1 & 3;
    size_t at = 2u + (size_t)(body[0] << 8 | body[1]);
    const uint8_t *id = body + at;
    if (qos) at += 2;
    if (length - at >= want.stamp_at + STAMP_DIGITS && latency_count < SAMPLES) {
        uint64_t then = 0;
        if (want.text) {
            for (size_t i = 0; i < STAMP_DIGITS; i++) then = then * 10 + (uint64_t)(body[at + want.stamp_at + i] - '0');
        } else {
            memcpy(&then, body + at, sizeof then);
        }
        latencies[latency_count++] = (uint32_t)((nanoseconds() - then) / 1000);
    }
    received++;
    if (qos) send_ack(client, qos == 1 ? 0x40 : 0x50, id);
}

static void on_packet(Client *client, uint8_t first, const uint8_t *body, size_t length) {
    switch (first >> 4) {
    case 2:
        if (body[1]) errno = ECONNREFUSED, fail("CONNACK");
        if (client->subscriber) send_subscribe(client);
        else client->ready = true;
        break;
    case 3: on_publish(client, first, body, length); break;
    case 4: case 7: client->acknowledged++; break;
    case 5: send_ack(client, 0x62, body); break;
    case 6: send_ack(client, 0x70, body); break;
    case 9: client->ready = true; break;
    default: break;
    }
}

/* How long the packet at `at` is, and where its body begins; 0 if it is not there as a whole. */
static size_t packet_length(const Buffer *in, size_t at, size_t *body) {
    size_t length = 0, shift = 0, next = at + 1;
    uint8_t byte = 128;
    while (byte & 128) {
        if (next >= in->end) return 0;
        byte = in->bytes[next++];
        length |= (size_t)(byte & 127) << shift;
        shift += 7;
    }
    *body = next;
    return next + length <= in->end ? next + length - at : 0;
}

static void on_readable(Client *client) {
    Buffer *in = &client->in;
    ssize_t count = stream_read(&client->stream, reserve(in, CHUNK), CHUNK);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) errno = count ? errno : ECONNRESET, fail("read");
    in->end += (size_t)count;
    size_t at = 0, body, length;
    while ((length = packet_length(in, at, &body))) {
        on_packet(client, in->bytes[at], in->bytes + body, at + length - body);
        at += length;
    }
    memmove(in->bytes, in->bytes + at, in->end - at);
    in->end -= at;
    flush(client);
}

/* ---- the run ---- */

static void poll_clients(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < count; i++) on_readable(events[i].data.ptr);
}

static void open_client(Client *client, int port) {
    stream_open(&client->stream, port, want.tls, want.websocket);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->stream.socket, &event);
    send_connect(client);
    flush(client);
}

static void open_all(int count) {
    client_count = count;
    clients = calloc((size_t)count, sizeof *clients);
    for (int i = 0; i < count; i++) {
        clients[i].number = i;
        clients[i].subscriber = i < want.subscribers;
        open_client(&clients[i], clients[i].subscriber ? want.subscribe_port : want.publish_port);
    }
    uint64_t began = nanoseconds();
    for (int ready = 0; ready < count;) {
        poll_clients(100);
        ready = 0;
        for (int i = 0; i < count; i++) ready += clients[i].ready;
        if ((double)(nanoseconds() - began) > want.timeout * 1e9) errno = ETIMEDOUT, fail("not all clients are connected");
    }
}

/* Their sessions stay, they do not. */
static void leave(void) {
    for (int i = 0; i < want.subscribers; i++) {
        begin_packet(&clients[i], 0xe0, 0);
        flush(&clients[i]);
        stream_close(&clients[i].stream);
    }
}

static uint64_t all_acknowledged(void) {
    uint64_t sum = 0;
    for (int i = want.subscribers; i < client_count; i++) sum += clients[i].acknowledged;
    return sum;
}

static bool publish_burst(Client *client, double elapsed, uint64_t copies) {
    if (client->out.start < client->out.end) {
        flush(client);
        return false;
    }
    uint64_t open = want.qos ? client->sent - client->acknowledged
                             : (sent * copies - received) / (copies * (uint64_t)want.publishers);
    int burst = 0;
    while (client->sent < want.messages && open < want.window && burst < BURST) {
        if (want.rate > 0 && elapsed < (double)client->sent / want.rate) break;
        send_publish(client);
        open++;
        burst++;
    }
    if (burst) flush(client);
    return burst > 0;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int measure(void) {
    uint64_t copies = want.mode == PAIRS ? 1 : (uint64_t)want.subscribers;
    if (want.offline) copies = 1;
    uint64_t expected = want.messages * (uint64_t)want.publishers * copies;
    latencies = malloc(SAMPLES * sizeof *latencies);
    open_all(want.subscribers + want.publishers);
    usleep(500000); /* interest has to reach the other node of a mesh or bridge */
    if (want.offline) leave();
    usleep(want.offline ? 200000 : 0);
    printf("begin\n");
    fflush(stdout);
    uint64_t began = nanoseconds();
    double elapsed = 0;
    while (received < expected && elapsed < want.timeout) {
        bool busy = false;
        for (int i = want.subscribers; i < client_count; i++) busy |= publish_burst(&clients[i], elapsed, copies);
        poll_clients(busy ? 0 : 1);
        if (want.offline) received = all_acknowledged();
        elapsed = (double)(nanoseconds() - began) / 1e9;
    }
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"sent\": %llu, \"received\": %llu, \"expected\": %llu, \"seconds\": %.4f, \"p50_us\": %u, \"p99_us\": %u, \"own_cpu\": %.2f}\n",
           (unsigned long long)sent, (unsigned long long)received, (unsigned long long)expected, elapsed,
           latency_count ? latencies[latency_count / 2] : 0, latency_count ? latencies[latency_count * 99 / 100] : 0, own_cpu());
    return received == expected ? 0 : 1;
}

static int hold_idle(void) {
    want.subscribers = 0;
    open_all(want.idle);
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}

static int connect_often(void) {
    printf("begin\n");
    fflush(stdout);
    uint64_t began = nanoseconds();
    for (int i = 0; i < want.connects; i++) {
        Client client = {.number = i};
        open_client(&client, want.publish_port);
        while (!client.ready) poll_clients(100);
        memcpy(begin_packet(&client, 0xe0, 0), "", 0);
        flush(&client);
        stream_close(&client.stream);
        free(client.in.bytes);
        free(client.out.bytes);
    }
    double elapsed = (double)(nanoseconds() - began) / 1e9;
    printf("{\"sent\": 0, \"received\": %d, \"expected\": %d, \"seconds\": %.4f, \"p50_us\": 0, \"p99_us\": 0}\n",
           want.connects, want.connects, elapsed);
    return 0;
}

int main(int argc, char **argv) {
    for (int option; (option = getopt(argc, argv, "P:S:p:s:m:q:b:n:w:r:t:T:j:i:c:x:kKo")) > 0;) switch (option) {
        case 'P': want.publish_port = atoi(optarg); break;
        case 'S': want.subscribe_port = atoi(optarg); break;
        case 'p': want.publishers = atoi(optarg); break;
        case 's': want.subscribers = atoi(optarg); break;
        case 'm': want.mode = !strcmp(optarg, "fanin") ? FANIN : !strcmp(optarg, "fanout") ? FANOUT : PAIRS; break;
        case 'q': want.qos = atoi(optarg); break;
        case 'b': want.payload = (size_t)atol(optarg); break;
        case 'n': want.messages = strtoull(optarg, NULL, 10); break;
        case 'w': want.window = strtoull(optarg, NULL, 10); break;
        case 'r': want.rate = atof(optarg); break;
        case 't': want.timeout = atof(optarg); break;
        case 'T': want.topic = optarg; break;
        case 'j':
            want.text = optarg;
            want.payload = strlen(optarg);
            want.stamp_at = strcspn(optarg, "@");
            if (want.stamp_at + STAMP_DIGITS > want.payload) errno = EINVAL, fail("no room for the time in the text");
            break;
        case 'c': want.connects = atoi(optarg); break;
        case 'x':
            want.tls = !strcmp(optarg, "tls") || !strcmp(optarg, "wss");
            want.websocket = optarg[0] == 'w';
            break;
        case 'o': want.offline = true; /* fall through */
        case 'k': want.keep = true; break;
        case 'K': want.keep_publishers = true; break;
        case 'i': want.idle = atoi(optarg); break;
        default: return 2;
        }
    poller = epoll_create1(0);
    if (want.connects) return connect_often();
    return want.idle ? hold_idle() : measure();
}

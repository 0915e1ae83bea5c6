/*
 * The least that a device must spend on a TLS connection: one MQTT 5 client that publishes a message of a quiet report's size each interval, and
 * nothing else. The emitter's memory is held against it.
 *	bare_paho BROKER CA CERTIFICATE KEY UEID INTERVAL_MS COUNT
 */
#include <MQTTAsync.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE 217

static volatile int connected;

static void
on_connect(void *context, MQTTAsync_successData5 *data)
{
	(void)context;
	(void)data;
	connected = 1;
}

static void
on_failure(void *context, MQTTAsync_failureData5 *data)
{
	(void)context;
	fprintf(stderr, "bare_paho: not connected: %s\n", data->message != NULL ? data->message : "");
	exit(1);
}

static int
on_message(void *context, char *topic, int len, MQTTAsync_message *message)
{
	(void)context;
	(void)len;
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	return 1;
}

static void
pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&ts, NULL);
}

static void
open_client(char **argv, MQTTAsync *client)
{
	MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
	MQTTAsync_connectOptions connect = MQTTAsync_connectOptions_initializer5;
	MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
	tls.struct_version = 5;
	tls.trustStore = argv[2];
	tls.keyStore = argv[3];
	tls.privateKey = argv[4];
	tls.verify = 1;
	connect.ssl = &tls;
	connect.onSuccess5 = on_connect;
	connect.onFailure5 = on_failure;
	if (MQTTAsync_createWithOptions(client, argv[1], argv[5], MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) != 0 ||
	    MQTTAsync_setCallbacks(*client, NULL, NULL, on_message, NULL) != 0 ||
	    MQTTAsync_connect(*client, &connect) != 0)
		exit(1);
}

int
main(int argc, char **argv)
{
	MQTTAsync client;
	char topic[128], payload[SIZE] = "";
	if (argc != 8)
		return 2;
	open_client(argv, &client);
	while (!connected)
		pause_ms(10);
	snprintf(topic, sizeof topic, "fleetstate/1/0/%s/report", argv[5]);
	for (int i = 0; i < atoi(argv[7]); i++) {
		MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
		if (MQTTAsync_send(client, topic, SIZE, payload, 1, 0, &response) != 0)
			return 1;
		pause_ms(atol(argv[6]));
	}
	MQTTAsync_destroy(&client);
	return 0;
}

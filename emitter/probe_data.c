#include "emitter/probes.h"

void
probe_data(struct probe *p)
{
	for (unsigned fact = FACT_DATA_ENCRYPTED_VOLUMES; fact <= FACT_DATA_KEY_STORES; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}

void
probe_cryptography(struct probe *p)
{
	for (unsigned fact = FACT_DATA_CRYPTO_LIBRARY; fact <= FACT_DATA_CRYPTO_POLICY; fact++)
		facts_unknown(p->facts, (enum fact)fact, "no probe looks at this yet");
}

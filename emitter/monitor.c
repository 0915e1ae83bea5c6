#include "emitter/monitor.h"

void
monitor_judge(struct facts *facts)
{
	for (unsigned fact = FACT_ELEMENTS_DI_1; fact <= FACT_ELEMENTS_CS_5; fact++)
		facts_unknown(facts, (enum fact)fact, "not judged yet");
	facts_unknown(facts, FACT_VERDICT_OVERALL, "not judged yet");
	facts_unknown(facts, FACT_VERDICT_DEGRADED, "not judged yet");
}

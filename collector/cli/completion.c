/* What a shell completes: the words of both tables. */
#include <stdio.h>
#include <string.h>

#include "collector/cli/cli.h"
#include "collector/cli/remote.h"

/* bash takes a word apart where there is one of :=@, as in a URL, and gives what stands behind the last one to be completed. */
static const char head[] =
	"# bash completion of fleetstate: made by `fleetstate completion bash`.\n"
	"_fleetstate() {\n"
	"\tlocal all=() words=() verbs= options= part joins= n i\n"
	"\tfor ((i = 0; i <= COMP_CWORD; i++)); do\n"
	"\t\tpart=${COMP_WORDS[i]}\n"
	"\t\tif ((i > 0)) && [[ -n $part && (-n $joins || -z ${part//[:=@]/}) ]]; then\n"
	"\t\t\tall[${#all[@]}-1]+=$part\n"
	"\t\telse\n"
	"\t\t\tall+=(\"$part\")\n"
	"\t\tfi\n"
	"\t\tjoins=\n"
	"\t\t[[ -n $part && -z ${part//[:=@]/} ]] && joins=1\n"
	"\tdone\n"
	"\tn=$((${#all[@]} - 1))\n"
	"\tlocal cur=${all[n]} prev=${all[n-1]}\n"
	"\tfor ((i = 1; i < n; i++)); do\n"
	"\t\tcase ${all[i]} in\n"
	"\t\t--database | --url | --token | --token-file | --ca | --certificate | --key) ((i++)) ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) words+=(\"${all[i]}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\tlocal noun=${words[0]-} verb=${words[1]-}\n";
static const char tail[] = "\tCOMPREPLY=()\n"
			   "\tif ((${#words[@]} == 0)); then\n"
			   "\t\tcase $prev in --token-file | --ca | --certificate | --key) return ;; esac\n"
			   "\t\tCOMPREPLY=($(compgen -W \"$nouns --database --url --token --token-file --ca "
			   "--certificate --key --help --version\" -- \"$cur\"))\n"
			   "\telif ((${#words[@]} == 1)) && [[ -n $verbs && $cur != -* ]]; then\n"
			   "\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\"))\n"
			   "\telif [[ $cur == -* ]]; then\n"
			   "\t\tCOMPREPLY=($(compgen -W \"$options --help\" -- \"$cur\"))\n"
			   "\tfi\n"
			   "}\n"
			   "complete -o default -F _fleetstate fleetstate\n";
/* zsh takes bash's. */
static const char zsh[] = "#compdef fleetstate\n"
			  "autoload -U +X bashcompinit && bashcompinit\n"
			  "eval \"$(fleetstate completion bash)\"\n";

static bool
is_first(size_t i, const char *noun)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	for (size_t k = 0; k < i && k < n; k++)
		if (strcmp(commands[k].noun, noun) == 0)
			return false;
	for (size_t k = n; k < i; k++)
		if (strcmp(operations[k - n].noun, noun) == 0)
			return false;
	return true;
}

/* The rows of both tables, one after the other. */
static const char *
noun_at(size_t i)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	return i < n ? commands[i].noun : operations[i - n].noun;
}

static const char *
verb_at(size_t i)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	return i < n ? commands[i].verb : operations[i - n].verb;
}

/* What begins with two hyphens in the command's own help. */
static void
print_words(const char *arguments)
{
	for (const char *at = strstr(arguments, "--"); at != NULL; at = strstr(at + 2, "--"))
		printf(" --%.*s", (int)strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-"), at + 2);
}

static void
print_options(size_t i)
{
	size_t n;
	const struct command *commands = cli_commands(&n);

	if (i < n)
		print_words(commands[i].arguments);
	else
		remote_print_options(&operations[i - n], stdout);
}

static void
print_bash(size_t rows)
{
	fputs(head, stdout);
	fputs("\tlocal nouns=\"", stdout);
	for (size_t i = 0; i < rows; i++)
		if (is_first(i, noun_at(i)))
			printf("%s%s", i == 0 ? "" : " ", noun_at(i));
	fputs("\"\n\tcase $noun in\n", stdout);
	for (size_t i = 0; i < rows; i++) {
		if (verb_at(i) == NULL || !is_first(i, noun_at(i)))
			continue;
		printf("\t%s) verbs=\"", noun_at(i));
		for (size_t k = i; k < rows; k++)
			if (strcmp(noun_at(k), noun_at(i)) == 0 && verb_at(k) != NULL)
				printf("%s ", verb_at(k));
		fputs("\" ;;\n", stdout);
	}
	fputs("\tesac\n", stdout);
	for (size_t i = 0; i < rows; i++) {
		printf("\t[[ $noun == %s", noun_at(i));
		if (verb_at(i) != NULL)
			printf(" && $verb == %s", verb_at(i));
		fputs(" ]] && options+=\"", stdout);
		print_options(i);
		fputs("\"\n", stdout);
	}
	fputs(tail, stdout);
}

int
print_completion(const struct command *command, int argc, char **argv)
{
	size_t n;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_word(argv[1], "bash|zsh", "the shell");
	(void)cli_commands(&n);
	if (strcmp(argv[1], "bash") == 0)
		print_bash(n + operations_n);
	else
		fputs(zsh, stdout);
	return CLI_YES;
}

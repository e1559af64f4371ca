/* Prints what the C library's resolver says of each argument: its addresses, or for an address its name. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **words)
{
	for (int i = 1; i < count; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *one;
		char text[256];
		int backwards = strspn(words[i], "0123456789.") == strlen(words[i]);
		int failed = getaddrinfo(words[i], NULL, &hints, &list);
		if (failed) {
			printf("%s: %s\n", words[i], failed == EAI_AGAIN ? "again" : "none");
			continue;
		}
		for (one = list; one; one = one->ai_next) {
			int flags = backwards ? NI_NAMEREQD : NI_NUMERICHOST;
			if (getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, flags))
				strcpy(text, "none");
			printf("%s: %s\n", words[i], text);
		}
		freeaddrinfo(list);
	}
	return 0;
}

/* Stands in for the programs that startnet.cmd calls: writes down how it was called. */
#include <stdio.h>
#include <windows.h>

int main(void) {
	FILE *f = fopen("C:\\called", "a");
	return f == NULL || fprintf(f, "%s\n", GetCommandLineA()) < 0 || fclose(f) != 0;
}

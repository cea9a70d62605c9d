/* Bounds what a deflated data set (PS3.5 A.5), of which a megabyte becomes a gigabyte, may unfold to in memory.

   Orthanc's DICOMweb plugin parses each part of a STOW-RS request before anything of ours is asked, and DCMTK unfolds
   while it parses: a list of accepted transfer syntaxes comes too late there. DCMTK reads deflated data sets as raw
   deflate streams, which have negative window bits, and nothing else here does: PNG and the zip files that Orthanc
   hands out are other kinds, or are written only. /etc/ld.so.preload loads this library; our Python plugin ends
   Orthanc without it, and names a bound in the environment where the archive's list has such a transfer syntax.
   Without a bound no such stream is read at all. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#define Z_MEM_ERROR (-4)

struct stream { /* as zlib.h begins z_stream, which never changed */
    const unsigned char *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    unsigned char *next_out;
    unsigned int avail_out;
    unsigned long total_out;
};

typedef int (*init_function)(struct stream *stream, int window_bits, const char *version, int stream_size);
typedef int (*step_function)(struct stream *stream, int flush);
typedef int (*end_function)(struct stream *stream);

static unsigned long bound(void)
{
    const char *text = getenv("PACS_RAW_DEFLATE_BYTES");

    return text == NULL ? 0 : strtoul(text, NULL, 10);
}

int inflateInit2_(struct stream *stream, int window_bits, const char *version, int stream_size)
{
    const init_function begin = (init_function)dlsym(RTLD_NEXT, "inflateInit2_");
    const end_function end = (end_function)dlsym(RTLD_NEXT, "inflateEnd");
    int result;

    if (begin == NULL || end == NULL)
        return Z_MEM_ERROR;
    result = begin(stream, window_bits, version, stream_size); /* refused or not: it sets fields that callers read */
    if (window_bits >= 0 || bound() > 0)
        return result;
    if (result == 0)
        end(stream);
    return Z_MEM_ERROR;
}

int inflate(struct stream *stream, int flush)
{
    const step_function step = (step_function)dlsym(RTLD_NEXT, "inflate");
    const unsigned long most = bound();

    if (step == NULL || (most > 0 && stream->total_out > most))
        return Z_MEM_ERROR;
    return step(stream, flush);
}

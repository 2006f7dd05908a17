/* SPDX-License-Identifier: BSD-3-Clause */
/* What is emitted of what the host has merged: tables of queues, and what was there when they were read. */
#include "source/fanotify/reorder.h"

#include "steps.h"

struct row {
	const char *what;
	const char *queue; /* see raw.h */
	const char *there; /* see steps.h */
	const char *want;
};

static struct steps steps;

static void check_row(const struct row *row, bool everything, size_t chunk)
{
	static struct raw raw;

	raw.size = 0;
	raw_parse(&raw, row->queue);
	steps_create(&steps, raw.bytes, raw.size, chunk, row->there);
	steps.reorder.everything = everything;
	steps_run(&steps);
	CHECK_EQ(steps.at, raw.size);
	if (strcmp(steps.got, row->want) != 0) {
		(void)fprintf(stderr, "%s: got\n%s", row->what, steps.got);
		CHECK(!row->what);
	}
	steps_destroy(&steps);
}

static const struct row names[] = {
	{"one event each", "7 CREATE d1/a\n7 DELETE d1/a\n", " ", "CREATE d1/a\nDELETE d1/a\n"},
	{"made and removed", "7 CREATE|DELETE d1/a\n", " ", "CREATE d1/a\nDELETE d1/a\n"},
	{"removed and made", "7 CREATE|DELETE d1/a\n", " a ", "DELETE d1/a\nCREATE d1/a\n"},
	{"what is there is of its directory", "7 CREATE|DELETE d1/a\n7 CREATE|DELETE d2/a\n",
	 " d2/a ", "CREATE d1/a\nDELETE d1/a\nDELETE d2/a\nCREATE d2/a\n"},
	/* By two processes: made again, merged into the first event. */
	{"hidden in an earlier event", "7 CREATE d1/a\n8 DELETE d1/a\n", " a ",
	 "CREATE d1/a\nDELETE d1/a\nCREATE d1/a\n"},
	{"one of two removals", "7 CREATE|DELETE d1/a\n8 CREATE|DELETE d1/a\n", " ",
	 "CREATE d1/a\nDELETE d1/a\nCREATE d1/a\nDELETE d1/a\n"},
	{"by this daemon", "1 CREATE d1/a\n1 DELETE d1/a\n1 RENAME d1/a> >d1/b\n", " ", ""},
	{"an overflow", "7 CREATE d1/a\n0 OVERFLOW\n7 CREATE d1/b\n", " a b ",
	 "CREATE d1/a\nCREATE d1/b\n"},
};

static const struct row renames[] = {
	{"both halves", "7 RENAME d1/a> >d2/b\n", " d2/b ",
	 "MOVED_FROM d1/a =1\nMOVED_TO d2/b =1\n"},
	{"one half", "7 RENAME d1/a>\n7 RENAME >d1/b\n", " b ",
	 "MOVED_FROM d1/a =1\nMOVED_TO d1/b =2\n"},
	{"an exchange", "7 RENAME d1/a> >d1/b\n7 RENAME d1/b> >d1/a\n", " a b ",
	 "MOVED_FROM d1/a =1\nMOVED_TO d1/b =1\nMOVED_FROM d1/b =2\nMOVED_TO d1/a =2\n"},
	{"made, moved away, made again in the first event", "7 CREATE d1/a\n7 RENAME d1/a> >d1/b\n",
	 " a b ", "CREATE d1/a\nMOVED_FROM d1/a =1\nMOVED_TO d1/b =1\nCREATE d1/a\n"},
	/* Which of the two was hidden nobody can say: as few steps as can be. */
	{"removed, made and moved away", "7 CREATE|DELETE d1/a\n7 RENAME d1/a> >d1/b\n", " b ",
	 "DELETE d1/a\nCREATE d1/a\nMOVED_FROM d1/a =1\nMOVED_TO d1/b =1\n"},
	{"there, back and there again, which is merged",
	 "7 RENAME d1/a> >d1/b\n7 RENAME d1/b> >d1/a\n", " b ",
	 "MOVED_FROM d1/a =1\nMOVED_TO d1/b =1\nMOVED_FROM d1/b =2\nMOVED_TO d1/a =2\n"
	 "MOVED_FROM d1/a =3\nMOVED_TO d1/b =3\n"},
	{"halves of an old host", "7 MOVED_FROM d1/a\n7 MOVED_TO d2/b\n7 MOVED_TO d1/c\n",
	 " d2/b d1/c ", "MOVED_FROM d1/a =1\nMOVED_TO d2/b =1\nMOVED_TO d1/c =2\n"},
};

static const struct row objects[] = {
	{"between its name's coming and going", "7 CREATE|MODIFY|CLOSE_WRITE|DELETE d1/a o2\n", " ",
	 "CREATE d1/a\no2 MODIFY|CLOSE_WRITE gone\nDELETE d1/a\n"},
	{"also what has events of its own behind that",
	 "7 CREATE|DELETE|OPEN d1/a o2\n7 MODIFY d1/a o2\n8 CLOSE_WRITE d1/a o2\n", " ",
	 "CREATE d1/a\no2 OPEN gone\no2 MODIFY gone\no2 CLOSE_WRITE gone\nDELETE d1/a\n"},
	{"but not what was done by another name", "7 CREATE|DELETE d1/a o2\n7 MODIFY d1/b o2\n",
	 " b ", "CREATE d1/a\nDELETE d1/a\no2 MODIFY\n"},
	{"nor after another time that it has the name",
	 "7 CREATE|DELETE d1/a o2\n8 CREATE d1/a o2\n8 MODIFY d1/a o2\n", " a ",
	 "CREATE d1/a\nDELETE d1/a\nCREATE d1/a\no2 MODIFY\n"},
	{"nor without evidence, of a file that is removed while it is open",
	 "7 CREATE d1/a o2\n7 DELETE d1/a o2\n7 MODIFY|CLOSE_WRITE d1/a o2\n", " ",
	 "CREATE d1/a\nDELETE d1/a\no2 MODIFY|CLOSE_WRITE\n"},
	{"a file of each turn", "7 CREATE|MODIFY|DELETE d1/a o2\n7 CREATE|MODIFY|DELETE d1/a o3\n",
	 " ",
	 "CREATE d1/a\no2 MODIFY gone\nDELETE d1/a\nCREATE d1/a\no3 MODIFY gone\nDELETE d1/a\n"},
	{"a directory", "7 CREATE|ATTRIB|DELETE|DIR d1/a o2\n7 OPEN|DIR d2/.\n", " ",
	 "CREATE d1/a\no2 ATTRIB gone\no2 OPEN gone\nDELETE d1/a\n"},
	{"what this daemon did to it is not", "7 CREATE|DELETE d1/a o2\n1 MODIFY d1/a o2\n", " ",
	 "CREATE d1/a\nDELETE d1/a\n"},
	{"of a name that nothing is reported of", "7 MODIFY o2\n7 MODIFY|DELETE o3\n", " ",
	 "o2 MODIFY\no3 MODIFY gone\n"},
};

static const struct row ends[] = {
	{"alone", "7 DELETE_SELF o2\n", " ", "o2 DELETE_SELF\n"},
	{"with what came before it", "7 ATTRIB|DELETE_SELF o2\n", " ", "o2 ATTRIB|DELETE_SELF\n"},
	{"behind what follows", "7 ATTRIB|DELETE_SELF o2\n8 CLOSE_WRITE o2\n8 CREATE d1/a\n", " a ",
	 "o2 ATTRIB\no2 CLOSE_WRITE\nEND o2\nCREATE d1/a\n"},
	{"behind what happens in it", "7 ATTRIB|DELETE_SELF d2/.\n8 DELETE d2/x\n8 CREATE d1/a\n",
	 " a ", "o2 ATTRIB\nDELETE d2/x\nEND o2\nCREATE d1/a\n"},
	{"behind the move that a rename onto it is", "7 ATTRIB|DELETE_SELF o2\n7 MOVE_SELF o3\n",
	 " ", "o2 ATTRIB\no3 MOVE_SELF\nEND o2\n"},
	{"but not behind another process's", "7 ATTRIB|DELETE_SELF o2\n8 MOVE_SELF o3\n", " ",
	 "o2 ATTRIB|DELETE_SELF\no3 MOVE_SELF\n"},
	{"before its name goes",
	 "7 CREATE|MODIFY|DELETE d1/a o2\n7 ATTRIB|DELETE_SELF o2\n8 CLOSE_WRITE d1/a o2\n", " ",
	 "CREATE d1/a\no2 MODIFY gone\no2 ATTRIB gone\no2 CLOSE_WRITE gone\nEND o2\nDELETE d1/a\n"},
	{"behind what is done by another name, which is gone, too",
	 "7 CREATE|DELETE d1/a o2\n7 ATTRIB|DELETE_SELF o2\n8 CLOSE_WRITE d1/b o2\n", " ",
	 "CREATE d1/a\no2 ATTRIB gone\nDELETE d1/a\no2 CLOSE_WRITE\nEND o2\n"},
	/* Whoever drops the last reference is its author. */
	{"by this daemon", "1 DELETE_SELF o2\n1 CLOSE_WRITE|DELETE_SELF o3\n", " ",
	 "o2 DELETE_SELF\no3 DELETE_SELF\n"},
};

static void test_table(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_row(&rows[i], false, 0);
}

static void test_of_everything(void)
{
	check_row(&(const struct row){"for a watch client",
				      "1 CREATE d1/a o2\n1 MODIFY d1/a o2\n1 RENAME d1/a> >d1/b\n",
				      " b ",
				      "CREATE d1/a\no2 MODIFY\nMOVED_FROM d1/a =1\nMOVED_TO d1/b "
				      "=1\n"},
		  true, 0);
}

/* What decides is not in the first read: it is looked for. */
static void test_small_reads(void)
{
	static const struct row rows[] = {
		{"hidden", "7 CREATE d1/a\n8 DELETE d1/a\n7 CREATE d1/b\n8 DELETE d1/a\n", " b ",
		 "CREATE d1/a\nDELETE d1/a\nCREATE d1/b\nCREATE d1/a\nDELETE d1/a\n"},
		{"objects",
		 "7 CREATE|DELETE d1/a o2\n7 CREATE d1/b\n7 MODIFY d1/a o2\n7 CLOSE_WRITE d1/a "
		 "o2\n",
		 " b ",
		 "CREATE d1/a\no2 MODIFY gone\no2 CLOSE_WRITE gone\nDELETE d1/a\nCREATE d1/b\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i], false, 1);
}

/* What was removed while the daemon held it has ended too late. */
static void test_late_ends(void)
{
	static const struct {
		const char *what, *before, *meanwhile, *want;
		uint32_t handle; /* 0: of directories */
	} table[] = {
		{"a file", "7 CREATE d1/a o2\n", "7 ATTRIB o2\n7 DELETE d1/a\n1 DELETE_SELF o2\n",
		 "CREATE d1/a\no2 ATTRIB\nEND o2\nDELETE d1/a\n", 2},
		{"which is told of later", "7 CREATE d1/a o2\n",
		 "7 DELETE d1/a\n7 ATTRIB o2\n1 DELETE_SELF o2\n",
		 "CREATE d1/a\nDELETE d1/a\no2 ATTRIB\no2 DELETE_SELF\n", 2},
		{"another", "7 CREATE d1/a o2\n", "7 ATTRIB o2\n7 DELETE d1/a\n1 DELETE_SELF o3\n",
		 "CREATE d1/a\no2 ATTRIB\nDELETE d1/a\no3 DELETE_SELF\n", 2},
		{"a directory", "7 OPEN d2/.\n", "7 DELETE|DIR d1/b\n1 DELETE_SELF|DIR d2/.\n",
		 "o2 OPEN\nEND o2\nDELETE d1/b\n", 0},
		{"that the host has ended", "7 OPEN d2/.\n",
		 "7 DELETE|DIR d1/b\n7 DELETE_SELF|DIR d2/.\n",
		 "o2 OPEN\nDELETE d1/b\no2 DELETE_SELF\n", 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct vfsd_file_handle *handle = NULL;
		static struct raw raw;
		uint32_t fresh;

		raw.size = 0;
		raw_parse(&raw, table[i].before);
		raw_parse(&raw, table[i].meanwhile);
		steps_create(&steps, raw.bytes, raw.size, 1, " ");
		CHECK(steps_read(&steps));
		vfsd_fan_reorder_begin(&steps.reorder);
		vfsd_fan_reorder_next(&steps.reorder);
		fresh = steps.events.count;
		while (steps_read(&steps))
			;
		for (uint32_t k = 0; k < steps.events.count && table[i].handle; k++) {
			const struct vfsd_file_handle *its =
				vfsd_fan_self(&steps.events.at[k])->handle;

			if (its->bytes != 0 && number_of(&steps.numbers, its) == table[i].handle)
				handle = its;
		}
		CHECK(!handle == !table[i].handle);
		vfsd_fan_reorder_late_ends(&steps.reorder, fresh, handle);
		vfsd_fan_reorder_ends(&steps.reorder);
		while (steps.reorder.next < steps.events.count)
			vfsd_fan_reorder_next(&steps.reorder);
		if (strcmp(steps.got, table[i].want) != 0) {
			(void)fprintf(stderr, "%s: got\n%s", table[i].what, steps.got);
			CHECK(!table[i].what);
		}
		steps_destroy(&steps);
	}
}

/* What was kept for a batch does not reach the next. */
static void test_batches(void)
{
	static struct raw raw;

	raw.size = 0;
	for (int i = 0; i < 40; i++) /* more ends than can wait */
		raw_parse(&raw, "7 ATTRIB|DELETE_SELF o2\n8 CLOSE_WRITE o2\n");
	steps_create(&steps, raw.bytes, raw.size, raw.size / 2, " ");
	steps_run(&steps);
	steps_destroy(&steps);
	CHECK(strstr(steps.got, "END o2\no2 ATTRIB"));
}

#define TABLE(rows) test_table(rows, sizeof(rows) / sizeof((rows)[0]))

int main(void)
{
	TABLE(names);
	TABLE(renames);
	TABLE(objects);
	TABLE(ends);
	test_of_everything();
	test_small_reads();
	test_late_ends();
	test_batches();
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The tree of watched directories against a naive one: a table of parents and names. */
#include "watch/path_tree.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { IDS = 40, ROOT = 1, NAMES = 5, NO_PARENT = 0 };

static struct {
	bool known;
	int parent;
	int name;
} model[IDS + 1];

static const char *const names[NAMES] = {"a", "b", "c", "dd", "eee"};

static bool is_below(int id, int above)
{
	for (; id != NO_PARENT; id = model[id].parent)
		if (id == above)
			return true;
	return false;
}

static int model_path(int id, char *path)
{
	char part[512];

	path[0] = '\0';
	for (; id != ROOT; id = model[id].parent) {
		if (id == NO_PARENT)
			return -ENOENT;
		(void)snprintf(part, sizeof(part), "/%s%s", names[model[id].name], path);
		(void)strcpy(path, part);
	}
	(void)snprintf(part, sizeof(part), "root%s", path);
	(void)strcpy(path, part);
	return (int)strlen(path);
}

static void check_all(const struct vfsd_path_tree *tree)
{
	char want[512], path[512];
	size_t count = 0;

	for (int id = 1; id <= IDS; id++) {
		int bytes;

		CHECK_EQ(vfsd_path_tree_has(tree, (uint64_t)id), model[id].known);
		CHECK_EQ(vfsd_path_tree_is_inside(tree, (uint64_t)id),
			 model[id].known && is_below(id, ROOT));
		count += model[id].known;
		if (!model[id].known)
			continue;
		bytes = model_path(id, want);
		CHECK_EQ(vfsd_path_tree_path(tree, (uint64_t)id, NULL, path, sizeof(path)), bytes);
		if (bytes < 0)
			continue;
		CHECK(memcmp(path, want, (size_t)bytes) == 0);
		CHECK_EQ(vfsd_path_tree_path(tree, (uint64_t)id, "file", path, sizeof(path)),
			 bytes + 5);
		CHECK(memcmp(path + bytes, "/file", 5) == 0);
		CHECK_EQ(vfsd_path_tree_path(tree, (uint64_t)id, NULL, path, (size_t)bytes), bytes);
		CHECK_EQ(vfsd_path_tree_path(tree, (uint64_t)id, NULL, path, (size_t)bytes - 1),
			 -ENAMETOOLONG);
	}
	CHECK_EQ(vfsd_path_tree_count(tree), count);
}

static int child_of(int parent, int name)
{
	for (int id = 1; id <= IDS; id++)
		if (id != ROOT && model[id].known && model[id].parent == parent &&
		    model[id].name == name)
			return id;
	return 0;
}

static void put(struct vfsd_path_tree *tree, int parent, int name, int id)
{
	int want = !model[id].known;

	if (!model[parent].known)
		want = -ENOENT;
	else if (id == ROOT || (model[id].known && is_below(parent, id)))
		want = -ELOOP;
	CHECK_EQ(vfsd_path_tree_put(tree, (uint64_t)parent, names[name], (uint64_t)id), want);
	if (want < 0)
		return;
	if (child_of(parent, name))
		model[child_of(parent, name)].parent = NO_PARENT;
	model[id].known = true;
	model[id].parent = parent;
	model[id].name = name;
}

/* Everything that has no way to the root goes. */
static void sweep(struct vfsd_path_tree *tree)
{
	uint64_t id;

	while ((id = vfsd_path_tree_sweep(tree)) != 0) {
		CHECK(model[id].known && !is_below((int)id, ROOT));
		model[id].known = false;
	}
	for (int i = 1; i <= IDS; i++) {
		CHECK(!model[i].known || is_below(i, ROOT));
		if (!model[i].known)
			model[i].parent = NO_PARENT;
	}
}

static void count(void *ctx, uint64_t id)
{
	CHECK(model[id].known);
	++*(size_t *)ctx;
}

static void test_against_model(unsigned int seed)
{
	struct vfsd_path_tree *tree;

	srandom(seed);
	memset(model, 0, sizeof(model));
	model[ROOT].known = true;
	CHECK_EQ(vfsd_path_tree_create(ROOT, "root", &tree), 0);
	CHECK_EQ(vfsd_path_tree_root(tree), ROOT);
	for (int step = 0; step < 2000; step++) {
		int id = (int)(random() % IDS + 1), parent = (int)(random() % IDS + 1);
		int name = (int)(random() % NAMES);
		size_t visited = 0;

		switch (random() % 8) {
		case 0:
			sweep(tree);
			break;
		case 1:
			vfsd_path_tree_detach(tree, (uint64_t)id);
			if (id != ROOT)
				model[id].parent = NO_PARENT;
			break;
		case 2:
			CHECK_EQ(vfsd_path_tree_child(tree, (uint64_t)parent, names[name]),
				 model[parent].known ? child_of(parent, name) : 0);
			vfsd_path_tree_each(tree, count, &visited);
			CHECK_EQ(visited, vfsd_path_tree_count(tree));
			break;
		default:
			put(tree, parent, name, id);
		}
		check_all(tree);
	}
	vfsd_path_tree_destroy(tree);
}

/* The share itself has no name, and what is in it no slash before its own. */
static void test_share(void)
{
	struct vfsd_path_tree *tree;
	char path[16];

	CHECK_EQ(vfsd_path_tree_create(ROOT, "", &tree), 0);
	CHECK_EQ(vfsd_path_tree_path(tree, ROOT, NULL, path, sizeof(path)), 0);
	CHECK_EQ(vfsd_path_tree_path(tree, ROOT, "f", path, sizeof(path)), 1);
	CHECK_EQ(vfsd_path_tree_put(tree, ROOT, "d", 2), 1);
	CHECK_EQ(vfsd_path_tree_path(tree, 2, "f", path, sizeof(path)), 3);
	CHECK(memcmp(path, "d/f", 3) == 0);
	vfsd_path_tree_destroy(tree);
	vfsd_path_tree_destroy(NULL);
}

/* As deep as a guest likes: nothing recurses. */
static void test_deep(void)
{
	enum { DEPTH = 300000 };
	struct vfsd_path_tree *tree;
	char path[4096];
	int swept = 0;

	CHECK_EQ(vfsd_path_tree_create(ROOT, "", &tree), 0);
	for (uint64_t id = 2; id < DEPTH; id++)
		CHECK_EQ(vfsd_path_tree_put(tree, id - 1, "d", id), 1);
	CHECK_EQ(vfsd_path_tree_path(tree, DEPTH - 1, NULL, path, sizeof(path)), -ENAMETOOLONG);
	vfsd_path_tree_detach(tree, 2);
	while (vfsd_path_tree_sweep(tree))
		swept++;
	CHECK_EQ(swept, DEPTH - 2);
	vfsd_path_tree_destroy(tree);
}

int main(void)
{
	for (unsigned int seed = 1; seed <= 20; seed++)
		test_against_model(seed);
	test_share();
	test_deep();
	return 0;
}

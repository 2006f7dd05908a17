/* SPDX-License-Identifier: BSD-3-Clause */
#include "watch/path_tree.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct node {
	uint64_t nodeid;
	struct node *parent; /* NULL: the root, or detached */
	struct node *first;  /* child */
	struct node *previous, *next;
	char *name;
};

struct vfsd_path_tree {
	struct node *root;
	struct node *detached; /* list, by next */
	void *by_id;	       /* see tsearch(3) */
	void *by_name;	       /* of those with a parent */
	size_t count;
};

static int compare_id(const void *a, const void *b)
{
	const struct node *left = a, *right = b;

	return (left->nodeid > right->nodeid) - (left->nodeid < right->nodeid);
}

static int compare_name(const void *a, const void *b)
{
	const struct node *left = a, *right = b;

	if (left->parent != right->parent)
		return (uintptr_t)left->parent > (uintptr_t)right->parent ? 1 : -1;
	return strcmp(left->name, right->name);
}

static struct node *find(const struct vfsd_path_tree *tree, uint64_t nodeid)
{
	struct node key = {.nodeid = nodeid};
	struct node **found = tfind(&key, &tree->by_id, compare_id);

	return found ? *found : NULL;
}

static struct node *find_name(const struct vfsd_path_tree *tree, struct node *parent,
			      const char *name)
{
	struct node key = {.parent = parent, .name = (char *)(uintptr_t)name};
	struct node **found = tfind(&key, &tree->by_name, compare_name);

	return found ? *found : NULL;
}

static struct node *node_create(struct vfsd_path_tree *tree, uint64_t nodeid)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->nodeid = nodeid;
	if (!tsearch(node, &tree->by_id, compare_id)) {
		free(node);
		return NULL;
	}
	tree->count++;
	return node;
}

static void node_free(void *raw)
{
	struct node *node = raw;

	free(node->name);
	free(node);
}

static void keep(void *node)
{
	(void)node; /* it is in the other tree too */
}

int vfsd_path_tree_create(uint64_t root, const char *path, struct vfsd_path_tree **ret)
{
	struct vfsd_path_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	tree->root = node_create(tree, root);
	if (tree->root)
		tree->root->name = strdup(path);
	if (!tree->root || !tree->root->name) {
		vfsd_path_tree_destroy(tree);
		return -ENOMEM;
	}
	*ret = tree;
	return 0;
}

void vfsd_path_tree_destroy(struct vfsd_path_tree *tree)
{
	if (!tree)
		return;
	tdestroy(tree->by_name, keep);
	tdestroy(tree->by_id, node_free);
	free(tree);
}

size_t vfsd_path_tree_count(const struct vfsd_path_tree *tree)
{
	return tree->count;
}

uint64_t vfsd_path_tree_root(const struct vfsd_path_tree *tree)
{
	return tree->root->nodeid;
}

static bool is_below(const struct node *node, const struct node *above)
{
	while (node && node != above)
		node = node->parent;
	return node != NULL;
}

bool vfsd_path_tree_has(const struct vfsd_path_tree *tree, uint64_t nodeid)
{
	return find(tree, nodeid) != NULL;
}

bool vfsd_path_tree_is_inside(const struct vfsd_path_tree *tree, uint64_t nodeid)
{
	return is_below(find(tree, nodeid), tree->root);
}

/* Into the list at @head: of children, or of those detached. */
static void link_node(struct node **head, struct node *node)
{
	node->previous = NULL;
	node->next = *head;
	if (*head)
		(*head)->previous = node;
	*head = node;
}

static void unlink_node(struct node **head, struct node *node)
{
	if (node->previous)
		node->previous->next = node->next;
	else
		*head = node->next;
	if (node->next)
		node->next->previous = node->previous;
	node->previous = node->next = NULL;
}

static void detach(struct vfsd_path_tree *tree, struct node *node)
{
	if (!node->parent)
		return;
	(void)tdelete(node, &tree->by_name, compare_name);
	unlink_node(&node->parent->first, node);
	node->parent = NULL;
	link_node(&tree->detached, node);
}

void vfsd_path_tree_detach(struct vfsd_path_tree *tree, uint64_t nodeid)
{
	struct node *node = find(tree, nodeid);

	if (node && node != tree->root)
		detach(tree, node);
}

/* @node is new, or detached. */
static int attach(struct vfsd_path_tree *tree, struct node *node, struct node *parent, char *name)
{
	unlink_node(&tree->detached, node);
	free(node->name);
	node->name = name;
	node->parent = parent;
	if (!tsearch(node, &tree->by_name, compare_name)) {
		node->parent = NULL;
		link_node(&tree->detached, node);
		return -ENOMEM;
	}
	link_node(&parent->first, node);
	return 0;
}

int vfsd_path_tree_put(struct vfsd_path_tree *tree, uint64_t parent_id, const char *name,
		       uint64_t nodeid)
{
	struct node *parent = find(tree, parent_id), *node = find(tree, nodeid), *other;
	bool is_new = !node;
	char *copy;
	int err;

	if (!parent)
		return -ENOENT;
	if (node && (node == tree->root || is_below(parent, node)))
		return -ELOOP;
	other = find_name(tree, parent, name);
	if (other && other == node)
		return 0;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	if (!node) {
		node = node_create(tree, nodeid);
		if (!node) {
			free(copy);
			return -ENOMEM;
		}
		link_node(&tree->detached, node);
	}
	if (other)
		detach(tree, other);
	detach(tree, node);
	err = attach(tree, node, parent, copy);
	return err ? err : is_new;
}

uint64_t vfsd_path_tree_child(const struct vfsd_path_tree *tree, uint64_t parent, const char *name)
{
	struct node *in = find(tree, parent);
	struct node *node = in ? find_name(tree, in, name) : NULL;

	return node ? node->nodeid : 0;
}

uint64_t vfsd_path_tree_sweep(struct vfsd_path_tree *tree)
{
	struct node *node = tree->detached;
	uint64_t nodeid;

	if (!node)
		return 0;
	/* No recursion: whoever makes directories decides how deep the tree is. */
	while (node->first)
		detach(tree, node->first);
	unlink_node(&tree->detached, node);
	(void)tdelete(node, &tree->by_id, compare_id);
	tree->count--;
	nodeid = node->nodeid;
	node_free(node);
	return nodeid;
}

struct visit {
	void (*each)(void *ctx, uint64_t nodeid);
	void *ctx;
};

static void visit(const void *at, VISIT which, void *raw)
{
	const struct node *node = *(const struct node *const *)at;
	const struct visit *visit = raw;

	if (which == postorder || which == leaf)
		visit->each(visit->ctx, node->nodeid);
}

void vfsd_path_tree_each(const struct vfsd_path_tree *tree,
			 void (*each)(void *ctx, uint64_t nodeid), void *ctx)
{
	struct visit closure = {.each = each, .ctx = ctx};

	twalk_r(tree->by_id, visit, &closure);
}

int vfsd_path_tree_path(const struct vfsd_path_tree *tree, uint64_t nodeid, const char *name,
			char *path, size_t room)
{
	const struct node *node = find(tree, nodeid);
	const char *part = name ? name : "";
	size_t used = 0;

	if (!node)
		return -ENOENT;
	/* From its end, at the end of the room, towards the root. */
	for (;;) {
		size_t bytes = strlen(part);
		bool slash = used > 0 && bytes > 0;

		if (bytes + slash > room - used)
			return -ENAMETOOLONG;
		if (slash)
			path[room - ++used] = '/';
		used += bytes;
		memcpy(path + room - used, part, bytes);
		if (!node)
			break;
		if (!node->parent && node != tree->root)
			return -ENOENT;
		part = node->name;
		node = node->parent;
	}
	memmove(path, path + room - used, used);
	return (int)used;
}

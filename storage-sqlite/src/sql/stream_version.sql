SELECT max(
    coalesce((
        SELECT version FROM whizbang_event
        WHERE stream = ?2 AND place BETWEEN ?3 AND ?4
        ORDER BY version DESC LIMIT 1
    ), 0),
    coalesce((SELECT version FROM whizbang_trimmed_stream WHERE service = ?1 AND stream = ?2), 0)
);

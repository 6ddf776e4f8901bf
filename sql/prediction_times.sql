-- When the draft of each stay is asked for, and which of its orders are the answer.
--
-- Grain:  one row per stay
-- Key:    hadm_id
-- Inputs: admissions, settings
-- Known:  at predict_time
-- Source: the settings of the run
--
-- At admission and at discharge every order of the stay is the answer; 24 hours after admission those that
-- start later are, and what was ordered by then is known. within_hours ends the window early. An order without
-- a time counts as written at admission. Example: 24h and 48 hours, admitted on the 1st at 10:00: asked on the 2nd at 10:00, the answer is
-- what starts after that and by the 4th at 10:00. A stay that ended by then is not asked about.

SELECT
    admissions.subject_id,
    admissions.hadm_id,
    admissions.admittime,
    CASE settings.predict_at
        WHEN 'admission' THEN admissions.admittime
        WHEN '24h' THEN admissions.admittime + INTERVAL 24 HOURS
        WHEN 'discharge' THEN coalesce(admissions.dischtime, admissions.admittime)
    END AS predict_time,
    CASE WHEN settings.predict_at = '24h' THEN predict_time ELSE TIMESTAMP '-infinity' END AS truth_from,
    coalesce(predict_time + to_hours(settings.within_hours), TIMESTAMP 'infinity') AS truth_until,
    settings.predict_at <> '24h' OR coalesce(admissions.dischtime > predict_time, TRUE) AS reached
FROM admissions
CROSS JOIN settings
